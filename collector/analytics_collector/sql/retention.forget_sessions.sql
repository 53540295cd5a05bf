-- retention.forget_sessions: those of a window that are wholly past, and their profiles' counts with them. Not for Citus
-- (multi-row FOR UPDATE).
WITH chosen AS (
    SELECT session_id
    FROM analytics_session AS s
    WHERE session_id > %(after)s AND session_id <= %(until)s
        AND GREATEST(started_at, last_event_at, ended_at) < %(before)s
        AND NOT EXISTS (SELECT FROM analytics_event AS e WHERE e.session_id = s.session_id AND e.created_at >= %(before)s)
    ORDER BY session_id
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM analytics_session AS s
    USING chosen
    WHERE s.session_id = chosen.session_id
    RETURNING s.user_id
),
profiled AS (
    INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_sessions)
    SELECT user_id, -count(*) FROM forgotten WHERE user_id IS NOT NULL GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET total_sessions = p.total_sessions + EXCLUDED.total_sessions
    RETURNING user_id
)
SELECT (SELECT count(*) FROM forgotten), ARRAY(SELECT user_id FROM profiled)

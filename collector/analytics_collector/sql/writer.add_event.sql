-- writer.add_event: one event, which is all that its session is told of, where nobody claims the session and it has not
-- ended. As most that come alone are of this kind, it takes half of the time of writer.write, which is for any number
-- and has the same rules. Tells whether the event is new; no row if it is of the other kind, and nothing is done then.
WITH session AS (
    INSERT INTO analytics_session AS s (session_id, user_id, started_at, last_event_at, user_agent, referrer)
    VALUES (%(session_id)s, %(user_id)s::bigint, %(created_at)s, %(created_at)s, '', '')
    ON CONFLICT (session_id) DO UPDATE SET
        started_at = LEAST(s.started_at, EXCLUDED.started_at),
        last_event_at = GREATEST(s.last_event_at, EXCLUDED.last_event_at)
    WHERE s.ended_at IS NULL AND (s.user_id IS NOT NULL OR EXCLUDED.user_id IS NULL)
    RETURNING COALESCE(%(user_id)s::bigint, s.user_id) AS user_id, xmax = 0 AS is_new
),
event AS (
    INSERT INTO analytics_event
        (event_id, created_at, user_id, session_id, event_type, event_data, ip_address, received_at)
    SELECT
        %(event_id)s::uuid,
        %(created_at)s,
        user_id,
        %(session_id)s,
        %(event_type)s,
        %(event_data)s::jsonb,
        %(ip_address)s::inet,
        %(received_at)s::timestamptz
    FROM session
    ON CONFLICT DO NOTHING
    RETURNING created_at
),
stored AS (
    SELECT session.user_id, session.is_new, event.created_at FROM session LEFT JOIN event ON true
),
profile AS (
    INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_sessions, total_events, first_seen, last_seen)
    SELECT user_id, is_new::int, (created_at IS NOT NULL)::int, created_at, created_at
    FROM stored
    WHERE user_id IS NOT NULL AND (is_new OR created_at IS NOT NULL)
    ON CONFLICT (user_id) DO UPDATE SET
        total_sessions = p.total_sessions + EXCLUDED.total_sessions,
        total_events = p.total_events + EXCLUDED.total_events,
        first_seen = LEAST(p.first_seen, EXCLUDED.first_seen),
        last_seen = GREATEST(p.last_seen, EXCLUDED.last_seen)
)
SELECT created_at IS NOT NULL FROM stored

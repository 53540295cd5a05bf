-- retention.forget_events: some users' rows in one partition, and their profiles' counts with them.
--
-- It waits for no event that a writer holds; profiles come last and in key order, as with writers: no deadlock.
-- Not for Citus (multi-row FOR UPDATE).
WITH chosen AS (
    SELECT event_id, created_at
    FROM {partition}
    WHERE user_id >= %(user_id)s AND created_at < %(before)s
    ORDER BY user_id, created_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM {partition} AS e
    USING chosen
    WHERE e.event_id = chosen.event_id AND e.created_at = chosen.created_at
    RETURNING e.user_id
),
profiled AS (
    INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_events)
    SELECT user_id, -count(*) FROM forgotten WHERE user_id IS NOT NULL GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET total_events = p.total_events + EXCLUDED.total_events
    RETURNING user_id
)
SELECT (SELECT count(*) FROM forgotten), ARRAY(SELECT user_id FROM profiled)

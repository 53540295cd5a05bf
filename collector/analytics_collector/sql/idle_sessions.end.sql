-- idle_sessions.end: some of those that are idle; a writer has those that are locked, so they are not idle. A session
-- without an event ends when it started. Not for Citus (multi-row FOR UPDATE).
WITH idle AS (
    SELECT session_id
    FROM analytics_session
    WHERE ended_at IS NULL AND GREATEST(started_at, last_event_at) < %(before)s
    ORDER BY started_at, session_id
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
UPDATE analytics_session AS s
SET ended_at = GREATEST(started_at, last_event_at)
FROM idle
WHERE s.session_id = idle.session_id

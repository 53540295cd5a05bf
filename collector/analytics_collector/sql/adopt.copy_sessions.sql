-- adopt.copy_sessions
INSERT INTO analytics_session
    (id, session_id, user_id, started_at, ended_at, last_event_at, user_agent, referrer)
SELECT
    s.id,
    s.session_id,
    s.user_id,
    COALESCE(s.started_at, e.first_event_at, now()),
    s.ended_at,
    e.last_event_at,
    COALESCE(s.user_agent, ''),
    COALESCE(s.referrer, '')
FROM analytics_before.analytics_session AS s
LEFT JOIN (
    SELECT session_id, MIN(created_at) AS first_event_at, MAX(created_at) AS last_event_at
    FROM analytics_before.analytics_event
    GROUP BY session_id
) AS e ON e.session_id = s.session_id

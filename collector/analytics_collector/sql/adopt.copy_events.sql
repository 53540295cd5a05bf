-- adopt.copy_events
INSERT INTO analytics_event
    (id, user_id, session_id, event_type, event_data, created_at, ip_address)
SELECT
    id,
    user_id,
    session_id,
    event_type,
    COALESCE(event_data, '{}'),
    COALESCE(created_at, now()),
    ip_address
FROM analytics_before.analytics_event

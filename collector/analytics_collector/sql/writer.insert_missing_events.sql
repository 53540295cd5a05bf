-- writer.insert_missing_events: those that are not there yet; in key order, so that no two writers wait in a circle.
INSERT INTO analytics_event (event_id, created_at, user_id, session_id, event_type, event_data, ip_address)
SELECT event_id, created_at, user_id, session_id, event_type, event_data, ip_address
FROM json_to_recordset(%(events)s::json) AS told (
    event_id uuid,
    created_at timestamptz,
    user_id bigint,
    session_id text,
    event_type text,
    event_data jsonb,
    ip_address inet
)
ORDER BY event_id, created_at
ON CONFLICT DO NOTHING
RETURNING event_id, created_at

-- writer.insert_events: a few; fails if one of them is there already.
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

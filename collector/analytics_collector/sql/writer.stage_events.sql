-- writer.stage_events
COPY batch_event (event_id, created_at, user_id, session_id, event_type, event_data, ip_address)
FROM STDIN (FORMAT BINARY)

-- writer.copy_events: fails if one of them is there already; writer.write does not.
COPY analytics_event (event_id, created_at, user_id, session_id, event_type, event_data, ip_address, received_at)
FROM STDIN (FORMAT BINARY)

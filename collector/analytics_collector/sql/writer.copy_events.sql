-- writer.copy_events
COPY batch_event (event_id, user_id, session_id, event_type, event_data, created_at, ip_address) FROM STDIN

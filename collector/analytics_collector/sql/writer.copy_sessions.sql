-- writer.copy_sessions
COPY batch_session (session_id, user_id, started_at, ended_at, last_event_at, user_agent, referrer) FROM STDIN

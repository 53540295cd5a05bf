-- db: where events land by COPY that may be there already. Empty again at each COMMIT.
CREATE TEMP TABLE IF NOT EXISTS batch_event (
    event_id uuid,
    created_at timestamptz,
    user_id bigint,
    session_id varchar(64),
    event_type varchar(50),
    event_data jsonb,
    ip_address inet
) ON COMMIT DELETE ROWS

-- db: where a batch lands by COPY before one statement spreads it over the tables. Empty again at each COMMIT.
CREATE TEMP TABLE IF NOT EXISTS batch_event (
    event_id uuid,
    user_id bigint,
    session_id varchar(64),
    event_type varchar(50),
    event_data jsonb,
    created_at timestamptz,
    ip_address inet
) ON COMMIT DELETE ROWS;

CREATE TEMP TABLE IF NOT EXISTS batch_session (
    session_id varchar(64),
    user_id bigint,
    started_at timestamptz,
    ended_at timestamptz,
    last_event_at timestamptz,
    user_agent text,
    referrer text
) ON COMMIT DELETE ROWS;

-- The owners of sessions that this batch brought into being.
CREATE TEMP TABLE IF NOT EXISTS batch_new_session (
    user_id bigint
) ON COMMIT DELETE ROWS;

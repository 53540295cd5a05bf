-- The tables of an app that has kept its analytics by itself, with their indexes.
CREATE TABLE analytics_event (
    id bigserial PRIMARY KEY,
    user_id integer REFERENCES auth_user (id),
    session_id varchar(64) NOT NULL,
    event_type varchar(50) NOT NULL,
    event_data jsonb,
    created_at timestamptz DEFAULT now(),
    ip_address inet
);
CREATE INDEX ON analytics_event (user_id, created_at);
CREATE INDEX ON analytics_event (session_id, event_type);

CREATE TABLE analytics_session (
    id bigserial PRIMARY KEY,
    session_id varchar(64) UNIQUE NOT NULL,
    user_id integer REFERENCES auth_user (id),
    started_at timestamptz DEFAULT now(),
    ended_at timestamptz,
    user_agent text,
    referrer text
);
CREATE INDEX ON analytics_session (user_id, started_at);

CREATE TABLE analytics_useranalyticsprofile (
    id bigserial PRIMARY KEY,
    user_id integer UNIQUE NOT NULL REFERENCES auth_user (id),
    total_sessions integer NOT NULL,
    total_events integer NOT NULL,
    first_seen timestamptz,
    last_seen timestamptz
);

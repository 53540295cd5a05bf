-- 0002: housekeeping. When each of its jobs last ran, and the index by which idle sessions are found.

CREATE TABLE analytics_job (
    name text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,  -- null while it runs, and if its process died
    outcome text NOT NULL DEFAULT '',  -- one sentence
    failures integer NOT NULL DEFAULT 0  -- in a row
);

-- Not on last_event_at: nearly every batch moves that one, and would have to move the index entry along (no HOT
-- update). Active sessions are few, so it is cheap to look at each.
CREATE INDEX analytics_session_active ON analytics_session (started_at, session_id) WHERE ended_at IS NULL;

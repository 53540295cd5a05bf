-- writer.upsert_sessions: make the group's new sessions and lock all of them, in key order, until COMMIT.
--
-- Nobody else can claim one of them or add an event to one from here on, and the next statement has a snapshot
-- taken after that: this is what makes claims exact. The owner of a session that exists is not touched here, but told.
-- A session that has ended and sees a later event ends later.
INSERT INTO analytics_session AS s
    (session_id, user_id, started_at, ended_at, last_event_at, user_agent, referrer)
SELECT
    session_id,
    user_id,
    COALESCE(started_at, now()),
    CASE WHEN ended_at IS NOT NULL THEN GREATEST(ended_at, last_event_at) END,
    last_event_at,
    user_agent,
    referrer
FROM json_to_recordset(%(sessions)s::json) AS told (
    session_id text,
    user_id bigint,
    started_at timestamptz,
    ended_at timestamptz,
    last_event_at timestamptz,
    user_agent text,
    referrer text
)
ORDER BY session_id
ON CONFLICT (session_id) DO UPDATE SET
    started_at = LEAST(s.started_at, EXCLUDED.started_at),
    ended_at = CASE
        WHEN COALESCE(s.ended_at, EXCLUDED.ended_at) IS NOT NULL
            THEN GREATEST(s.ended_at, EXCLUDED.ended_at, s.last_event_at, EXCLUDED.last_event_at)
    END,
    last_event_at = GREATEST(s.last_event_at, EXCLUDED.last_event_at),
    user_agent = COALESCE(NULLIF(s.user_agent, ''), EXCLUDED.user_agent),
    referrer = COALESCE(NULLIF(s.referrer, ''), EXCLUDED.referrer)
RETURNING s.session_id, s.user_id, xmax = 0

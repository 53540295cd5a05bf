-- writer.upsert_sessions: make the batch's new sessions and lock all of them, in key order, until COMMIT.
--
-- Nobody else can claim one of them or add an event to one from here on, and the next statement has a snapshot
-- taken after that: this is what makes claims exact. The owner of a session that exists is not touched here.
-- A session that has ended and sees a later event ends later.
WITH touched AS (
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
    FROM batch_session
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
    RETURNING s.user_id, xmax = 0 AS is_new
)
INSERT INTO batch_new_session (user_id)
SELECT user_id FROM touched WHERE is_new AND user_id IS NOT NULL

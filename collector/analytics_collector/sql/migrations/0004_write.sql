-- 0004: what the writer calls. A group of a few records is stored in one round trip, as the way there and back is most
-- of what it costs. The functions have the rights of whoever calls them, and want READ COMMITTED: each statement in
-- them sees what others have committed before it, which is what makes claims exact.

-- A session that was touched: whose it is now, and what that adds to its owner's profile.
CREATE TYPE analytics_touched AS (
    session_id text,
    user_id bigint,
    total_sessions bigint,
    total_events bigint,
    first_seen timestamptz,
    last_seen timestamptz
);

-- Sessions that nobody owned until now become their first user's, with their anonymous events. They are locked already.
CREATE FUNCTION analytics_claim_sessions(touched analytics_touched[], claimed text[]) RETURNS SETOF analytics_touched
LANGUAGE plpgsql
SET enable_seqscan = off  -- a plan from when the tables were small must not stay until they are analyzed
SET plan_cache_mode = force_generic_plan  -- to plan it anew takes as long as to do it, and longer with many months
AS $$
#variable_conflict use_column
BEGIN
    UPDATE analytics_session AS s
    SET user_id = t.user_id
    FROM unnest(touched) AS t
    WHERE s.session_id = t.session_id AND s.session_id = ANY (claimed);

    RETURN QUERY
    WITH adopted AS (
        UPDATE analytics_event AS e
        SET user_id = t.user_id
        FROM unnest(touched) AS t
        WHERE e.session_id = t.session_id AND e.session_id = ANY (claimed) AND e.user_id IS NULL
        RETURNING e.session_id, e.created_at
    ),
    counted AS (
        SELECT session_id, count(*) AS total_events, MIN(created_at) AS first_seen, MAX(created_at) AS last_seen
        FROM adopted
        GROUP BY session_id
    )
    SELECT
        session_id,
        t.user_id,
        t.total_sessions,
        COALESCE(counted.total_events, 0),
        counted.first_seen,
        counted.last_seen
    FROM unnest(touched) AS t LEFT JOIN counted USING (session_id);
END
$$;

-- Make the group's new sessions, and lock all of them, in key order, until COMMIT: nobody else can claim one of them or
-- add an event to one from here on. A session that has ended and sees a later event ends later.
CREATE FUNCTION analytics_touch_sessions(sessions jsonb) RETURNS SETOF analytics_touched
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    touched analytics_touched[];
    claimed text[];
BEGIN
    WITH told AS (
        SELECT * FROM jsonb_to_recordset(sessions) AS told (
            session_id text,
            user_id bigint,
            started_at timestamptz,
            ended_at timestamptz,
            last_event_at timestamptz,
            user_agent text,
            referrer text
        )
    ),
    stored AS (
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
        FROM told
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
        RETURNING s.session_id, s.user_id, xmax = 0 AS is_new
    ),
    judged AS (
        SELECT
            session_id,
            COALESCE(stored.user_id, told.user_id) AS user_id,
            (is_new OR stored.user_id IS NULL) AND told.user_id IS NOT NULL AS is_first,
            stored.user_id IS NULL AND told.user_id IS NOT NULL AS is_claimed
        FROM stored JOIN told USING (session_id)
    )
    SELECT
        array_agg(ROW(session_id, user_id, is_first::int, 0, NULL, NULL)::analytics_touched),
        array_agg(session_id) FILTER (WHERE is_claimed)
    INTO touched, claimed
    FROM judged;

    IF claimed IS NULL THEN
        RETURN QUERY SELECT * FROM unnest(touched);
    ELSE
        RETURN QUERY SELECT * FROM analytics_claim_sessions(touched, claimed);
    END IF;
END
$$;

-- In key order, so that no two writers wait in a circle.
CREATE FUNCTION analytics_grow_profiles(grown analytics_touched[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_sessions, total_events, first_seen, last_seen)
    SELECT user_id, SUM(total_sessions), SUM(total_events), MIN(first_seen), MAX(last_seen)
    FROM unnest(grown)
    WHERE user_id IS NOT NULL AND total_sessions + total_events > 0
    GROUP BY user_id
    ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET
        total_sessions = p.total_sessions + EXCLUDED.total_sessions,
        total_events = p.total_events + EXCLUDED.total_events,
        first_seen = LEAST(p.first_seen, EXCLUDED.first_seen),
        last_seen = GREATEST(p.last_seen, EXCLUDED.last_seen);
END
$$;

-- Sessions first: their locks are what makes claims exact, and they tell whose the anonymous events are. Profiles last,
-- by what was really new. Returns the keys of the events that were stored before.
CREATE FUNCTION analytics_write(sessions jsonb, events jsonb) RETURNS TABLE (event_id uuid, created_at timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    touched analytics_touched[] := ARRAY(SELECT t FROM analytics_touch_sessions(sessions) AS t);
    grown analytics_touched[];
    stored_ids uuid[];
    stored_times timestamptz[];
BEGIN
    WITH stored AS (
        INSERT INTO analytics_event
            (event_id, created_at, user_id, session_id, event_type, event_data, ip_address, received_at)
        SELECT
            event_id,
            created_at,
            COALESCE(told.user_id, t.user_id),
            session_id,
            event_type,
            event_data,
            ip_address,
            received_at
        FROM jsonb_to_recordset(events) AS told (
            event_id uuid,
            created_at timestamptz,
            user_id bigint,
            session_id text,
            event_type text,
            event_data jsonb,
            ip_address inet,
            received_at timestamptz
        )
        LEFT JOIN unnest(touched) AS t USING (session_id)
        ORDER BY event_id, created_at
        ON CONFLICT DO NOTHING
        RETURNING event_id, created_at, user_id
    )
    SELECT
        array_agg(event_id),
        array_agg(created_at),
        array_agg(ROW(NULL, user_id, 0, 1, created_at, created_at)::analytics_touched)
    INTO stored_ids, stored_times, grown
    FROM stored;

    PERFORM analytics_grow_profiles(touched || grown);

    IF COALESCE(cardinality(stored_ids), 0) < jsonb_array_length(events) THEN
        RETURN QUERY
        SELECT event_id, created_at
        FROM jsonb_to_recordset(events) AS told (event_id uuid, created_at timestamptz)
        EXCEPT
        SELECT * FROM unnest(stored_ids, stored_times);
    END IF;
END
$$;

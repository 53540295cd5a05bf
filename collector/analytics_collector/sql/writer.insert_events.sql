-- writer.insert_events: the batch's events, the claims of anonymous sessions, and the profiles, all or nothing.
--
-- Only rows that are really new (RETURNING after DO NOTHING) move a profile. The sessions are locked already
-- (writer.upsert_sessions), events come in key order, profiles come last and in key order: no deadlock.
WITH claimed AS (  -- sessions that nobody owned until this batch
    UPDATE analytics_session s
    SET user_id = b.user_id
    FROM batch_session b
    WHERE s.session_id = b.session_id AND s.user_id IS NULL AND b.user_id IS NOT NULL
    RETURNING s.session_id, s.user_id
),
adopted AS (  -- their anonymous events
    UPDATE analytics_event e
    SET user_id = claimed.user_id
    FROM claimed
    WHERE e.session_id = claimed.session_id AND e.user_id IS NULL
    RETURNING e.user_id, e.created_at
),
inserted AS (  -- an event that names no user is its session's owner's
    INSERT INTO analytics_event
        (event_id, user_id, session_id, event_type, event_data, created_at, ip_address)
    SELECT
        e.event_id,
        COALESCE(e.user_id, s.user_id, b.user_id),
        e.session_id,
        e.event_type,
        e.event_data,
        e.created_at,
        e.ip_address
    FROM batch_event e
    LEFT JOIN batch_session b ON b.session_id = e.session_id
    LEFT JOIN analytics_session s ON s.session_id = b.session_id
    ORDER BY e.event_id, e.created_at
    ON CONFLICT DO NOTHING
    RETURNING user_id, created_at
),
deltas AS (
    SELECT
        user_id,
        SUM(sessions) AS total_sessions,
        SUM(events) AS total_events,
        MIN(created_at) AS first_seen,
        MAX(created_at) AS last_seen
    FROM (
        SELECT user_id, created_at, 0 AS sessions, 1 AS events FROM inserted
        UNION ALL SELECT user_id, created_at, 0, 1 FROM adopted
        UNION ALL SELECT user_id, NULL, 1, 0 FROM claimed
        UNION ALL SELECT user_id, NULL, 1, 0 FROM batch_new_session
    ) AS changes
    WHERE user_id IS NOT NULL
    GROUP BY user_id
),
profiled AS (
    INSERT INTO analytics_useranalyticsprofile AS p
        (user_id, total_sessions, total_events, first_seen, last_seen)
    SELECT user_id, total_sessions, total_events, first_seen, last_seen FROM deltas ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET
        total_sessions = p.total_sessions + EXCLUDED.total_sessions,
        total_events = p.total_events + EXCLUDED.total_events,
        first_seen = LEAST(p.first_seen, EXCLUDED.first_seen),
        last_seen = GREATEST(p.last_seen, EXCLUDED.last_seen)
)
SELECT count(*) AS accepted FROM inserted

-- profiles.verify: the profiles that differ from the rows, in one statement and so in one snapshot.
WITH counted AS (
    SELECT
        user_id,
        SUM(sessions)::bigint AS total_sessions,
        SUM(events)::bigint AS total_events,
        MIN(first_seen) AS first_seen,
        MAX(last_seen) AS last_seen
    FROM (
        SELECT user_id, 0 AS sessions, count(*) AS events, MIN(created_at) AS first_seen, MAX(created_at) AS last_seen
        FROM analytics_event
        WHERE user_id IS NOT NULL
        GROUP BY user_id
        UNION ALL
        SELECT user_id, count(*), 0, NULL, NULL
        FROM analytics_session
        WHERE user_id IS NOT NULL
        GROUP BY user_id
    ) AS rows_of_users
    GROUP BY user_id
)
SELECT
    COALESCE(p.user_id, counted.user_id),
    p.total_sessions, p.total_events, p.first_seen, p.last_seen,
    counted.total_sessions, counted.total_events, counted.first_seen, counted.last_seen
FROM analytics_useranalyticsprofile AS p
FULL JOIN counted ON counted.user_id = p.user_id
WHERE (COALESCE(p.total_sessions, 0), COALESCE(p.total_events, 0), p.first_seen, p.last_seen)
    IS DISTINCT FROM
    (COALESCE(counted.total_sessions, 0), COALESCE(counted.total_events, 0), counted.first_seen, counted.last_seen)
ORDER BY 1

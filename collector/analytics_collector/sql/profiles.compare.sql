-- profiles.compare: the profiles that differ from what was tallied.
WITH counted AS (
    SELECT
        user_id,
        SUM(sessions)::bigint AS total_sessions,
        SUM(events)::bigint AS total_events,
        MIN(first_seen) AS first_seen,
        MAX(last_seen) AS last_seen
    FROM profile_tally
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

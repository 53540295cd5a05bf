-- What the profiles must say, counted from the rows.
SELECT
    p.user_id,
    (SELECT count(*) FROM analytics_session AS s WHERE s.user_id = p.user_id) AS total_sessions,
    count(*) AS total_events,
    min(e.created_at) AS first_seen,
    max(e.created_at) AS last_seen
FROM analytics_useranalyticsprofile AS p
JOIN analytics_event AS e ON e.user_id = p.user_id
GROUP BY p.user_id
ORDER BY p.user_id

-- profiles.rebuild
INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_sessions, total_events, first_seen, last_seen)
SELECT
    wrong.user_id,
    (SELECT count(*) FROM analytics_session AS s WHERE s.user_id = wrong.user_id),
    (SELECT count(*) FROM analytics_event AS e WHERE e.user_id = wrong.user_id),
    (SELECT MIN(created_at) FROM analytics_event AS e WHERE e.user_id = wrong.user_id),
    (SELECT MAX(created_at) FROM analytics_event AS e WHERE e.user_id = wrong.user_id)
FROM unnest(%(user_ids)s::bigint[]) AS wrong (user_id)
ORDER BY wrong.user_id
ON CONFLICT (user_id) DO UPDATE SET
    total_sessions = EXCLUDED.total_sessions,
    total_events = EXCLUDED.total_events,
    first_seen = EXCLUDED.first_seen,
    last_seen = EXCLUDED.last_seen

-- profiles.rebuild: as they were counted, which nobody has changed since.
INSERT INTO analytics_useranalyticsprofile (user_id, total_sessions, total_events, first_seen, last_seen)
SELECT user_id, total_sessions, total_events, first_seen, last_seen
FROM unnest(
    %(user_ids)s::bigint[],
    %(total_sessions)s::bigint[],
    %(total_events)s::bigint[],
    %(first_seen)s::timestamptz[],
    %(last_seen)s::timestamptz[]
) AS counted (user_id, total_sessions, total_events, first_seen, last_seen)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
    total_sessions = EXCLUDED.total_sessions,
    total_events = EXCLUDED.total_events,
    first_seen = EXCLUDED.first_seen,
    last_seen = EXCLUDED.last_seen

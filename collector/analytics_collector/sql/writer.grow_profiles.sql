-- writer.grow_profiles: in key order, so that no two writers wait in a circle.
INSERT INTO analytics_useranalyticsprofile AS p (user_id, total_sessions, total_events, first_seen, last_seen)
SELECT user_id, total_sessions, total_events, first_seen, last_seen
FROM json_to_recordset(%(deltas)s::json) AS grown (
    user_id bigint,
    total_sessions bigint,
    total_events bigint,
    first_seen timestamptz,
    last_seen timestamptz
)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
    total_sessions = p.total_sessions + EXCLUDED.total_sessions,
    total_events = p.total_events + EXCLUDED.total_events,
    first_seen = LEAST(p.first_seen, EXCLUDED.first_seen),
    last_seen = GREATEST(p.last_seen, EXCLUDED.last_seen)

-- writer.grow_profiles
SELECT analytics_grow_profiles(array_agg(ROW(NULL, user_id, total_sessions, total_events, first_seen, last_seen)::analytics_touched))
FROM jsonb_to_recordset(%(deltas)s::jsonb) AS grown (
    user_id bigint,
    total_sessions bigint,
    total_events bigint,
    first_seen timestamptz,
    last_seen timestamptz
)

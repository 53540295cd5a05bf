-- reader.profiles: one indexed row a user, however long the history. Traits alone do not make a profile.
SELECT p.user_id, u.external_id, p.total_sessions, p.total_events, p.first_seen, p.last_seen,
       COALESCE(u.traits, '{}'::jsonb)::text
FROM analytics_useranalyticsprofile AS p
LEFT JOIN analytics_user AS u ON u.id = p.user_id
WHERE p.user_id = ANY(%(ids)s::bigint[])

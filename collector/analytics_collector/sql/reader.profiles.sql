-- reader.profiles: one indexed row a user, however long the history. Traits alone do not make a profile.
-- Postgres plans anew for each array that it can see, which takes longer than the lookup; so it does not see this one.
SELECT p.user_id, u.external_id, p.total_sessions, p.total_events, p.first_seen, p.last_seen,
       COALESCE(u.traits, '{}'::jsonb)::text
FROM analytics_useranalyticsprofile AS p
LEFT JOIN analytics_user AS u ON u.id = p.user_id
WHERE p.user_id = ANY((SELECT %(ids)s::text)::bigint[])

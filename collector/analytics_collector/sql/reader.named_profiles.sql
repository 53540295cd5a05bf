-- reader.named_profiles: as reader.profiles, of users whose ids are strings: one statement for these, too.
SELECT p.user_id, u.external_id, p.total_sessions, p.total_events, p.first_seen, p.last_seen, u.traits::text
FROM analytics_user AS u
JOIN analytics_useranalyticsprofile AS p ON p.user_id = u.id
WHERE u.external_id = ANY((SELECT %(ids)s::text[])::text[])

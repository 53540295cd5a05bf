-- selftest.profiles: as the API tells them.
SELECT COALESCE(u.external_id, p.user_id::text), p.total_sessions, p.total_events, p.first_seen, p.last_seen
FROM analytics_useranalyticsprofile AS p
LEFT JOIN analytics_user AS u ON u.id = p.user_id

-- reader.sessions: the two keys of the cursor first.
SELECT s.started_at, s.session_id, s.user_id, u.external_id, s.ended_at, s.last_event_at, s.user_agent, s.referrer
FROM analytics_session AS s
LEFT JOIN analytics_user AS u ON u.id = s.user_id
WHERE {where}
ORDER BY s.started_at DESC, s.session_id DESC
LIMIT %(limit)s

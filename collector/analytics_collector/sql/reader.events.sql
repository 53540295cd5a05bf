-- reader.events: the two keys of the cursor first.
SELECT e.created_at, e.event_id, e.user_id, u.external_id, e.session_id, e.event_type, e.event_data::text,
       e.received_at, host(e.ip_address)
FROM analytics_event AS e
LEFT JOIN analytics_user AS u ON u.id = e.user_id
WHERE {where}
ORDER BY e.created_at DESC, e.event_id DESC
LIMIT %(limit)s

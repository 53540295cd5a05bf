-- overflow.forget_changed
DELETE FROM analytics_event_staging AS s
USING (SELECT DISTINCT event_id, created_at FROM analytics_event_changed) AS c
WHERE s.event_id = c.event_id AND s.created_at = c.created_at

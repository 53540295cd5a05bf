-- overflow.copy_changed
INSERT INTO analytics_event_staging
SELECT d.*
FROM (SELECT DISTINCT event_id, created_at FROM analytics_event_changed) AS c
JOIN analytics_event_default AS d ON d.event_id = c.event_id AND d.created_at = c.created_at

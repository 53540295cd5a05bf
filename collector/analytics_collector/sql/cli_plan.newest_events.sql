-- cli_plan.newest_events: sorted within their time span, as no index is by time alone.
SELECT event_type, event_data::text
FROM analytics_event
WHERE created_at >= %(since)s
ORDER BY created_at DESC
LIMIT %(limit)s

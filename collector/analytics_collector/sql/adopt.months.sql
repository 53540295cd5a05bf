-- adopt.months: for which there must be partitions.
SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')
FROM analytics_before.analytics_event
WHERE created_at IS NOT NULL
ORDER BY 1

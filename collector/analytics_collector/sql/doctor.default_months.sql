-- doctor.default_months: of which months rows are in the DEFAULT partition; a million of them are enough to know.
SELECT to_char(date_trunc('month', created_at AT TIME ZONE 'UTC'), 'YYYY-MM'), count(*)
FROM (SELECT created_at FROM analytics_event_default LIMIT 1000000) AS caught
GROUP BY 1

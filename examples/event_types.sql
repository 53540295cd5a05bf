-- How many events of each type arrived.
SELECT event_type, count(*) FROM analytics_event GROUP BY event_type

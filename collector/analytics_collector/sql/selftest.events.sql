-- selftest.events: every id that is stored, and in how many rows.
SELECT event_id, count(*) FROM analytics_event GROUP BY event_id

-- housekeeping.start
INSERT INTO analytics_job AS j (name, started_at) VALUES (%(name)s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET started_at = EXCLUDED.started_at, finished_at = NULL

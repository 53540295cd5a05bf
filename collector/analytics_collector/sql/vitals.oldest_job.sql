-- vitals.oldest_job: since how many seconds the oldest one runs that has not finished.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(started_at)), 0)::float8
FROM analytics_job
WHERE finished_at IS NULL

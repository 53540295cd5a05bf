-- housekeeping.last_runs: when each job began and ended, and how; and for how many seconds it has rested.
SELECT name, started_at, finished_at, outcome, failures, extract(epoch FROM clock_timestamp() - finished_at)::float8
FROM analytics_job

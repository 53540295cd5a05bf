-- vitals.has_jobs
SELECT to_regclass('analytics_job') IS NOT NULL

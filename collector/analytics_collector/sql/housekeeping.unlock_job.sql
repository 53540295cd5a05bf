-- housekeeping.unlock_job
SELECT pg_advisory_unlock(727041822, hashtext(%(name)s || ' of ' || 'analytics_job'::regclass::oid::text))

-- housekeeping.lock_job: one runner at a time, be it the housekeeper or somebody by hand. The first number is ours, the
-- second tells jobs apart, and tables from those of the same names in another schema.
SELECT pg_try_advisory_lock(727041822, hashtext(%(name)s || ' of ' || 'analytics_job'::regclass::oid::text))

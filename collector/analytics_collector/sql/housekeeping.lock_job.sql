-- housekeeping.lock_job: one runner at a time, be it the housekeeper or somebody by hand. The number is ours.
SELECT pg_try_advisory_lock(727041822, hashtext(%(name)s))

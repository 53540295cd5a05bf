-- selftest.lock_schema: for as long as the trial's connection lives. The first number is ours.
SELECT pg_advisory_lock(727041825, oid::integer) FROM pg_namespace WHERE nspname = %(name)s

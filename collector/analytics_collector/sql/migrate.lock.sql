-- migrate.lock: one migrator at a time in this database; released at COMMIT. The number is ours, drawn once.
SELECT pg_advisory_xact_lock(7270418223041)

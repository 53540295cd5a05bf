-- partitions.lock: one maker at a time; another one waits up to two seconds for it.
SELECT set_config('lock_timeout', '2s', true), pg_advisory_xact_lock(7270418223042)

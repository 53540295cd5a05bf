-- partitions.lock: one maker at a time; and rather give up than make writers queue behind us for a lock.
SELECT set_config('lock_timeout', '2s', true), pg_advisory_xact_lock(7270418223042)

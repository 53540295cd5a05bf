-- partitions.lock: one maker at a time; another one waits up to two seconds for it. The first number is ours.
SELECT
    set_config('lock_timeout', '2s', true),
    pg_advisory_xact_lock(727041824, 'analytics_event'::regclass::oid::integer)

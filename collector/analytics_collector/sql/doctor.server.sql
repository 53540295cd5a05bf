-- doctor.server: settings as a new session of this role has them.
SELECT
    current_setting('server_version_num')::int,
    (SELECT jsonb_object_agg(name, reset_val) FROM pg_settings WHERE name = ANY(%(names)s)),
    pg_is_in_recovery(),
    (SELECT COALESCE(sum(numbackends), 0)::int FROM pg_stat_database)

-- doctor.tables
SELECT relname::text, n_live_tup, n_dead_tup, GREATEST(last_vacuum, last_autovacuum)
FROM pg_stat_user_tables
WHERE starts_with(relname::text, 'analytics_')
ORDER BY relname

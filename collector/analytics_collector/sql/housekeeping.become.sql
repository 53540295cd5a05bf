-- housekeeping.become: the one housekeeper of these tables, for as long as this connection lives. The first number is
-- ours, the second tells the tables from those of the same names in another schema.
-- Postgres finds out within half a minute if the machine of the other end is gone.
SELECT
    pg_try_advisory_lock(727041823, 'analytics_job'::regclass::oid::integer),
    set_config('tcp_keepalives_idle', '15', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false)

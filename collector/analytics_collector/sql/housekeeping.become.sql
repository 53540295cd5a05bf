-- housekeeping.become: the one housekeeper of this database, for as long as this connection lives. The number is ours.
-- Postgres finds out within half a minute if the machine of the other end is gone.
SELECT
    pg_try_advisory_lock(7270418223043),
    set_config('tcp_keepalives_idle', '15', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false)

-- db.session: claims are exact in READ COMMITTED only (sql/migrations/0004_write.sql), whatever the database's default.
SELECT
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('lock_timeout', %(lock_timeout)s, false),
    set_config('statement_timeout', %(statement_timeout)s, false)

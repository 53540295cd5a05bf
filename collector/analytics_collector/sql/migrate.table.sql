-- migrate.table
CREATE TABLE IF NOT EXISTS analytics_migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

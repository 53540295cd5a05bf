-- migrate.exists
SELECT to_regclass('analytics_migration') IS NOT NULL

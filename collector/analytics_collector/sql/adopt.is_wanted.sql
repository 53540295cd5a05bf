-- adopt.is_wanted: the tables are there, and no migration of ours made them.
SELECT to_regclass('analytics_event') IS NOT NULL
    AND to_regclass('analytics_session') IS NOT NULL
    AND to_regclass('analytics_migration') IS NULL

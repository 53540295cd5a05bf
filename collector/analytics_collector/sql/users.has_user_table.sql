-- users.has_user_table: migrate --user-table makes this view.
SELECT to_regclass('analytics_known_user') IS NOT NULL

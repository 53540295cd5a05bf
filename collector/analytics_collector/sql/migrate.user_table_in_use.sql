-- migrate.user_table_in_use: the name that migrate.user_table left, null if there is none, and whether it is this one.
SELECT in_use.name, to_regclass(in_use.name) = to_regclass(%(user_table)s)
FROM (SELECT obj_description(to_regclass('analytics_known_user'), 'pg_class') AS name) AS in_use

-- roles.facts: no row if there is no such role.
SELECT
    current_schema(),
    current_database(),
    has_database_privilege(rolname, current_database(), 'TEMPORARY'),
    to_regclass('analytics_known_user') IS NOT NULL
FROM pg_roles
WHERE rolname = %(role)s

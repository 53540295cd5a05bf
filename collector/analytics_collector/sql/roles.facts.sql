-- roles.facts: no row if there is no such role.
SELECT
    current_schema(),
    to_regclass('analytics_known_user') IS NOT NULL
FROM pg_roles
WHERE rolname = %(role)s

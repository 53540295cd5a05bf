-- selftest.leftovers: schemas of trials that were killed, and that we may drop. A lock that we get nobody else holds.
WITH ours AS MATERIALIZED (
    SELECT oid, nspname
    FROM pg_namespace
    WHERE starts_with(nspname::text, %(prefix)s)
        AND obj_description(oid, 'pg_namespace') = 'analytics-collector selftest; may be dropped'
        AND pg_has_role(nspowner, 'USAGE')
)
SELECT nspname::text FROM ours WHERE pg_try_advisory_lock(727041825, oid::integer)

-- users.unknown: which of these are in no row of the app's user table (migrate --user-table made the view).
SELECT named.id
FROM unnest(%(ids)s::bigint[]) AS named (id)
WHERE NOT EXISTS (SELECT FROM analytics_known_user AS known WHERE known.id = named.id)

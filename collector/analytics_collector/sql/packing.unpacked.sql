-- packing.unpacked: the oldest months first.
SELECT relname::text
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = ANY(%(partitions)s::text[]::regclass[]) AND obj_description(indexrelid, 'pg_class') IS DISTINCT FROM 'packed'
ORDER BY 1

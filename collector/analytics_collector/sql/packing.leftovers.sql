-- packing.leftovers: what a rebuild has left behind that was broken off.
SELECT relname::text
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = ANY(%(partitions)s::text[]::regclass[]) AND NOT indisvalid AND relname ~ '_cc(new|old)\d*$'
ORDER BY 1

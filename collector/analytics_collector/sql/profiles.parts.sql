-- profiles.parts: the tables that hold events, and how many blocks each has. On Citus a distributed table's size is
-- another function's; here it only moves the progress bar.
SELECT relid::text, pg_relation_size(relid) / 8192 + 1
FROM pg_partition_tree('analytics_event')
WHERE isleaf
ORDER BY relid::text

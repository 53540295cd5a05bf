-- partitions.attached: the months that have a partition, as it is named and constrained, oldest first.
SELECT relname, pg_get_partition_constraintdef(oid)
FROM pg_inherits
JOIN pg_class ON oid = inhrelid
WHERE inhparent = 'analytics_event'::regclass AND relname ~ '^analytics_event_\d{4}_\d\d$'
ORDER BY relname

-- partitions.attached: the months that have a partition, oldest first.
SELECT relname
FROM pg_inherits
JOIN pg_class ON oid = inhrelid
WHERE inhparent = 'analytics_event'::regclass AND relname ~ '^analytics_event_\d{4}_\d\d$'
ORDER BY relname

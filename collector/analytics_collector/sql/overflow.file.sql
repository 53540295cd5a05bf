-- overflow.file: which file the DEFAULT partition is in, and how many blocks it has. TRUNCATE makes another file.
SELECT pg_relation_filenode('analytics_event_default'),
       pg_relation_size('analytics_event_default') / current_setting('block_size')::bigint

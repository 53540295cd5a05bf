-- overflow.in_no_month: what a row of the next DEFAULT partition is like, in words from which ATTACH can conclude that no
-- partition should have it. (It cannot if they speak of nulls, which the column has not.)
SELECT string_agg(
    'NOT ' || replace(pg_get_partition_constraintdef(inhrelid), '(created_at IS NOT NULL) AND ', ''), ' AND '
)
FROM pg_inherits
JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent IN ('analytics_event'::regclass, 'analytics_event_staging'::regclass)
    AND pg_get_expr(relpartbound, inhrelid) <> 'DEFAULT'

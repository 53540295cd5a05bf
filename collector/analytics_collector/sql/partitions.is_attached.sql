-- partitions.is_attached
SELECT EXISTS (
    SELECT FROM pg_inherits
    WHERE inhparent = 'analytics_event'::regclass AND inhrelid = to_regclass(%(name)s)
)

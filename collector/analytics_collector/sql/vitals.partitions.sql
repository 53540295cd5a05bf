-- vitals.partitions: how many there are, and about how many rows the DEFAULT one has: the planner's estimate, or, where
-- VACUUM and ANALYZE have never been, what its size can hold at least one row of.
SELECT count(*) FILTER (WHERE relispartition AND oid <> 'analytics_event_default'::regclass),
       coalesce(max(CASE WHEN reltuples >= 0 THEN reltuples
                         WHEN pg_relation_size(oid) = 0 THEN 0
                         ELSE n_live END) FILTER (WHERE oid = 'analytics_event_default'::regclass), 0)
FROM (
    SELECT pg_class.oid, relispartition, reltuples, pg_stat_get_live_tuples(pg_class.oid) AS n_live
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'analytics_event'::regclass
) AS partition

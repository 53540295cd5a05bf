-- overflow.constraint: what a partition's bounds say about its rows, in the words of ATTACH.
SELECT pg_get_partition_constraintdef(to_regclass(%(name)s))

-- overflow.foreign_keys: those of migrate --user-table. A partition that has them already is attached without a check.
SELECT pg_get_constraintdef(oid)
FROM pg_constraint
WHERE conrelid = 'analytics_event'::regclass AND contype = 'f' AND conparentid = 0

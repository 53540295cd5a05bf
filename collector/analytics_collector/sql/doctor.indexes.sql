-- doctor.indexes: those that Postgres does not use, as their making was broken off.
SELECT indexrelid::regclass::text
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE starts_with(relname::text, 'analytics_') AND NOT (indisvalid AND indisready)
ORDER BY 1

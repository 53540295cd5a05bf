-- migrate.applied
SELECT name, checksum FROM analytics_migration ORDER BY name

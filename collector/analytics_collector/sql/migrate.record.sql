-- migrate.record
INSERT INTO analytics_migration (name, checksum) VALUES (%(name)s, %(checksum)s)

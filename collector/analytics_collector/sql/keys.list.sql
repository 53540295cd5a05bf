-- keys.list
SELECT name, kind, sha256, created_at, revoked_at FROM analytics_key ORDER BY created_at, name

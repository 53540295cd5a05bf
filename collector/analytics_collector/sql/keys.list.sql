-- keys.list
SELECT name, kind, sha256, created_at, revoked_at, rate, daily, origins, former_sha256, former_until
FROM analytics_key
ORDER BY created_at, name

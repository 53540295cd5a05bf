-- keys.kind
SELECT kind FROM analytics_key WHERE name = %(name)s AND revoked_at IS NULL

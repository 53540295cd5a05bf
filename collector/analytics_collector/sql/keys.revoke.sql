-- keys.revoke
UPDATE analytics_key SET revoked_at = now() WHERE name = %(name)s AND revoked_at IS NULL

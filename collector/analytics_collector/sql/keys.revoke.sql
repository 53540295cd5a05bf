-- keys.revoke
UPDATE analytics_key SET revoked_at = now(), former_sha256 = NULL WHERE name = %(name)s AND revoked_at IS NULL

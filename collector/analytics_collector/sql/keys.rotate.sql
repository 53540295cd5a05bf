-- keys.rotate: name, kind and limits stay; so do the counts.
UPDATE analytics_key
SET
    former_sha256 = sha256,
    former_until = now() + make_interval(secs => %(overlap)s),
    sha256 = %(sha256)s
WHERE name = %(name)s AND revoked_at IS NULL

-- keys.limit: null leaves a setting as it is, and 0 takes a limit away.
UPDATE analytics_key
SET
    rate = NULLIF(COALESCE(%(rate)s, rate), 0),
    daily = NULLIF(COALESCE(%(daily)s, daily), 0),
    origins = COALESCE(%(origins)s::text[], origins)
WHERE name = %(name)s AND revoked_at IS NULL

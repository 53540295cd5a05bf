-- rejects.count: how many, and the database's time, up to which a replay goes.
SELECT count(*), COALESCE(MAX(received_at), now())
FROM analytics_reject
WHERE received_at >= %(since)s::timestamptz AND (%(codes)s::text[] IS NULL OR code = ANY(%(codes)s::text[]))

-- rejects.newest
SELECT received_at, reject_id, kind, code, message, record, key_name
FROM analytics_reject
WHERE received_at >= %(since)s::timestamptz AND (%(codes)s::text[] IS NULL OR code = ANY(%(codes)s::text[]))
ORDER BY received_at DESC, reject_id DESC
LIMIT %(limit)s

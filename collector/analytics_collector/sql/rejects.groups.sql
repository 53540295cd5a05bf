-- rejects.groups
SELECT code, kind, key_name, count(*), MIN(received_at), MAX(received_at)
FROM analytics_reject
WHERE received_at >= %(since)s::timestamptz AND (%(codes)s::text[] IS NULL OR code = ANY(%(codes)s::text[]))
GROUP BY code, kind, key_name
ORDER BY 4 DESC, 1, 2, 3

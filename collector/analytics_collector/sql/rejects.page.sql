-- rejects.page: the next ones in the order in which they came, by keyset; a few that are huge make a short page.
SELECT received_at, reject_id, kind, code, message, record, key_name
FROM (
    SELECT *, SUM(octet_length(record)) OVER (ORDER BY received_at, reject_id) - octet_length(record) AS bytes_before
    FROM (
        SELECT received_at, reject_id, kind, code, message, record, key_name
        FROM analytics_reject
        WHERE (received_at, reject_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid)
            AND received_at <= %(until)s::timestamptz
            AND (%(codes)s::text[] IS NULL OR code = ANY(%(codes)s::text[]))
        ORDER BY received_at, reject_id
        LIMIT %(limit)s
    ) AS next
) AS sized
WHERE bytes_before <= %(most_bytes)s
ORDER BY received_at, reject_id

-- retention.trim_rejects: some of the old ones.
DELETE FROM analytics_reject
WHERE reject_id IN (
    SELECT reject_id
    FROM analytics_reject
    WHERE received_at < %(before)s
    ORDER BY received_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)

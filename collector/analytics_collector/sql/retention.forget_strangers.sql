-- retention.forget_strangers: some of the rows in DEFAULT that are no user's, as they come: no index has them in order.
DELETE FROM analytics_event_default AS e
USING (
    SELECT event_id, created_at
    FROM analytics_event_default
    WHERE user_id IS NULL AND created_at < %(before)s
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
) AS chosen
WHERE e.event_id = chosen.event_id AND e.created_at = chosen.created_at

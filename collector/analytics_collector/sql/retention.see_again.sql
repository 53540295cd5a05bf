-- retention.see_again: first and last event of users whose profiles we have locked, among the rows that are left.
UPDATE analytics_useranalyticsprofile AS p
SET
    first_seen = (
        SELECT MIN(e.created_at) FROM analytics_event AS e WHERE e.user_id = p.user_id AND e.created_at >= p.first_seen
    ),
    last_seen = CASE
        WHEN p.last_seen >= %(before)s THEN p.last_seen
        ELSE (SELECT MAX(e.created_at) FROM analytics_event AS e WHERE e.user_id = p.user_id)
    END
WHERE p.user_id = ANY(%(user_ids)s)

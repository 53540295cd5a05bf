-- retention.has_users: there are rows that a profile counts.
SELECT EXISTS (SELECT FROM {partition} WHERE user_id IS NOT NULL)

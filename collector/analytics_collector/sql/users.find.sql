-- users.find
SELECT external_id, id FROM analytics_user WHERE external_id = ANY(%(external_ids)s)

-- rejects.forget: what is stored by now.
DELETE FROM analytics_reject WHERE reject_id = ANY(%(reject_ids)s::uuid[])

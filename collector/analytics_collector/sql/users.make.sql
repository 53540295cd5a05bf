-- users.make: in key order, so that writers that meet the same new users do not wait in a circle.
INSERT INTO analytics_user (external_id)
SELECT external_id FROM unnest(%(external_ids)s::text[]) AS new (external_id) ORDER BY external_id
ON CONFLICT DO NOTHING

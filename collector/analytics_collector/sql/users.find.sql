-- users.find: one plan for all arrays, as in reader.profiles.
SELECT external_id, id FROM analytics_user WHERE external_id = ANY((SELECT %(external_ids)s::text[])::text[])

-- rejects.judge: what is still refused, perhaps for another reason than before.
UPDATE analytics_reject AS r
SET code = new.code, message = new.message
FROM unnest(%(reject_ids)s::uuid[], %(codes)s::text[], %(messages)s::text[]) AS new (reject_id, code, message)
WHERE r.reject_id = new.reject_id AND (r.code, r.message) IS DISTINCT FROM (new.code, new.message)

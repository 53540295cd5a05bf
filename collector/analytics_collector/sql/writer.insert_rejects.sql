-- writer.insert_rejects: a record sent again is the same reject.
INSERT INTO analytics_reject (reject_id, kind, code, message, record, key_name)
VALUES (%(reject_id)s, %(kind)s, %(code)s, %(message)s, %(record)s, %(key_name)s)
ON CONFLICT DO NOTHING

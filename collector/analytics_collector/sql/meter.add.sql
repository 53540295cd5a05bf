-- meter.add: what this process has counted since it last did, and back comes what all of them have.
INSERT INTO analytics_quota AS q (key_name, day, events)
VALUES (%(key_name)s, %(day)s, %(events)s)
ON CONFLICT (key_name, day) DO UPDATE SET events = q.events + EXCLUDED.events
RETURNING events

-- writer.write
SELECT * FROM analytics_write(%(sessions)s::jsonb, %(events)s::jsonb)

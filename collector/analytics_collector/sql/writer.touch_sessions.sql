-- writer.touch_sessions
SELECT * FROM analytics_touch_sessions(%(sessions)s::jsonb)

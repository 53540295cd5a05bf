-- overflow.copy: the rows in some blocks. A row that is there already has changed meanwhile, and so was noted.
INSERT INTO analytics_event_staging
SELECT * FROM analytics_event_default WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid
ON CONFLICT DO NOTHING

-- overflow.stage_month: the check repeats the bounds in a form that ATTACH looks at, so that it need not look at rows.
CREATE TABLE {partition} PARTITION OF analytics_event_staging
    (CONSTRAINT analytics_moving CHECK (created_at >= {first} AND created_at < {last}))
    FOR VALUES FROM ({first}) TO ({last})

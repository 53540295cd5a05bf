-- overflow.stage_rest: the next DEFAULT partition. The check says, in the words of ATTACH, that no month has its rows.
CREATE TABLE analytics_event_rest PARTITION OF analytics_event_staging
    (CONSTRAINT analytics_moving CHECK ({in_no_month})) DEFAULT

-- overflow.stage_key
ALTER TABLE analytics_event_staging ADD {foreign_key}

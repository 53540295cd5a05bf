-- overflow.swap_default: the copies take the places of the rows. Its rows are checked by nobody, see overflow.stage_rest.
ALTER TABLE analytics_event_staging DETACH PARTITION analytics_event_rest;
ALTER TABLE analytics_event DETACH PARTITION analytics_event_default;
ALTER TABLE analytics_event_default RENAME TO analytics_event_moved;
ALTER TABLE analytics_event_rest RENAME TO analytics_event_default;

-- overflow.swap_month
ALTER TABLE analytics_event_staging DETACH PARTITION {partition};
ALTER TABLE analytics_event ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({last});
ALTER TABLE {partition} DROP CONSTRAINT analytics_moving;

-- partitions.attach: asks for a weaker lock on the parent than PARTITION OF does; DEFAULT is locked and looked through.
ALTER TABLE analytics_event ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({last})

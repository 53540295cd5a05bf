-- partitions.make: made apart and then attached, which asks for a weaker lock on the parent than PARTITION OF.
CREATE TABLE {partition} (LIKE analytics_event INCLUDING ALL EXCLUDING IDENTITY);

ALTER TABLE analytics_event ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({last});

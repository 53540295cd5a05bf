-- partitions.make: apart, which keeps nobody waiting.
CREATE TABLE {partition} (LIKE analytics_event INCLUDING ALL EXCLUDING IDENTITY)

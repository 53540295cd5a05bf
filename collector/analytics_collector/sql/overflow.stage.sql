-- overflow.stage: where the rows are copied to; nobody reads it until its partitions change their parent.
CREATE TABLE analytics_event_staging (LIKE analytics_event INCLUDING ALL EXCLUDING IDENTITY) PARTITION BY RANGE (created_at)

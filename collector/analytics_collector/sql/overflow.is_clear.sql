-- overflow.is_clear: a move has left nothing behind.
SELECT to_regclass('analytics_event_staging') IS NULL
    AND to_regclass('analytics_event_moved') IS NULL
    AND to_regclass('analytics_event_changed') IS NULL

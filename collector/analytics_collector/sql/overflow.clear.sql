-- overflow.clear: what a move has left behind, whether it came to its end or not.
DROP TRIGGER IF EXISTS analytics_event_moving ON analytics_event_default;
DROP TABLE IF EXISTS analytics_event_staging, analytics_event_moved, analytics_event_changed;
DROP FUNCTION IF EXISTS analytics_note_change();

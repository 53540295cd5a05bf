-- overflow.forget_notes: in the snapshot in which they were followed.
DELETE FROM analytics_event_changed

-- adopt.go_on_counting: new ids come after those that were brought along.
SELECT
    setval(pg_get_serial_sequence('analytics_event', 'id'), COALESCE((SELECT MAX(id) FROM analytics_event), 0) + 1, false),
    setval(pg_get_serial_sequence('analytics_session', 'id'), COALESCE((SELECT MAX(id) FROM analytics_session), 0) + 1, false)

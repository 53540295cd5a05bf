-- housekeeping.finish: and how often it has failed in a row.
UPDATE analytics_job
SET
    finished_at = clock_timestamp(),
    outcome = %(outcome)s,
    failures = CASE WHEN %(failed)s THEN failures + 1 ELSE 0 END
WHERE name = %(name)s
RETURNING failures

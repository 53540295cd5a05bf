-- vitals.has_jobs: and whether this role may look; if not, that is for the doctor to say and no reason not to be ready.
SELECT COALESCE(has_table_privilege(to_regclass('analytics_job'), 'SELECT'), false)

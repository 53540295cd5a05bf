-- overflow.by_key: nobody has counted the new tables yet, and without that the planner would read them as a whole.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)

-- roles.grant: all that a running collector needs. It changes and deletes no table, and deletes no row.
GRANT USAGE ON SCHEMA {schema} TO {role};

GRANT SELECT, INSERT, UPDATE
ON analytics_event, analytics_session, analytics_useranalyticsprofile, analytics_user, analytics_quota
TO {role};

GRANT SELECT, INSERT ON analytics_reject TO {role};

GRANT SELECT ON analytics_key, analytics_migration, analytics_job TO {role};

-- Everybody may call a function, but where that default was changed.
GRANT EXECUTE ON FUNCTION
    analytics_write(jsonb, jsonb),
    analytics_touch_sessions(jsonb),
    analytics_claim_sessions(analytics_touched[], text[]),
    analytics_grow_profiles(analytics_touched[])
TO {role};

GRANT USAGE ON TYPE analytics_touched TO {role};

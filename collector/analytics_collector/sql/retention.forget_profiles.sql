-- retention.forget_profiles: of users of whom nothing is left.
DELETE FROM analytics_useranalyticsprofile
WHERE user_id = ANY(%(user_ids)s) AND total_events = 0 AND total_sessions = 0

-- profiles.hold: nobody waits for these locks but who alters tables. LOCK comes before the snapshot is taken, so that
-- housekeeping cannot move rows between the snapshot and the counting.
LOCK TABLE analytics_session, analytics_event, analytics_useranalyticsprofile IN ACCESS SHARE MODE

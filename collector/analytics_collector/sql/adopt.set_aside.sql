-- adopt.set_aside: indexes and sequences go along, so no name of theirs is in our way.
CREATE SCHEMA analytics_before;
ALTER TABLE analytics_event SET SCHEMA analytics_before;
ALTER TABLE analytics_session SET SCHEMA analytics_before;
ALTER TABLE IF EXISTS analytics_useranalyticsprofile SET SCHEMA analytics_before;

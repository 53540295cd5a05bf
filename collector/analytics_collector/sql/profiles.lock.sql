-- profiles.lock: writers wait, readers do not. In the order in which writers take them.
LOCK TABLE analytics_session, analytics_event, analytics_useranalyticsprofile IN SHARE ROW EXCLUSIVE MODE

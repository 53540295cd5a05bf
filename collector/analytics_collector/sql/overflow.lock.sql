-- overflow.lock: in the order in which everybody takes them.
LOCK TABLE ONLY analytics_event IN ACCESS EXCLUSIVE MODE;
LOCK TABLE analytics_event_default IN ACCESS EXCLUSIVE MODE;

-- retention.lock: in the order in which everybody takes them.
LOCK TABLE ONLY analytics_event IN ACCESS EXCLUSIVE MODE;
LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE;

-- retention.next_session: where the next window of sessions ends, null after the last one.
SELECT MAX(session_id)
FROM (SELECT session_id FROM analytics_session WHERE session_id > %(after)s ORDER BY session_id LIMIT %(most)s) AS window_

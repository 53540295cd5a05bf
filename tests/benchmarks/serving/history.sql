-- One user's history: so many events in one session, a millisecond apart, and the profile that tells of them.
INSERT INTO analytics_session (session_id, user_id, started_at, user_agent, referrer)
SELECT 'history of user ' || %(user_id)s::int, %(user_id)s::int, now() - %(events)s::int * interval '1 millisecond', '', '';

INSERT INTO analytics_event (user_id, session_id, event_type, event_data, created_at)
SELECT %(user_id)s::int, 'history of user ' || %(user_id)s::int, 'page_view', %(event_data)s::jsonb,
       now() - number * interval '1 millisecond'
FROM generate_series(1, %(events)s::int) AS number;

INSERT INTO analytics_useranalyticsprofile (user_id, total_sessions, total_events, first_seen, last_seen)
SELECT user_id, 1, count(*), min(created_at), max(created_at)
FROM analytics_event
WHERE user_id = %(user_id)s::int
GROUP BY user_id;

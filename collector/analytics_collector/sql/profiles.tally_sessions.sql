-- profiles.tally_sessions
INSERT INTO profile_tally
SELECT user_id, count(*), 0, NULL, NULL FROM analytics_session WHERE user_id IS NOT NULL GROUP BY user_id

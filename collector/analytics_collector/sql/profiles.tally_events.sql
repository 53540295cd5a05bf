-- profiles.tally_events
INSERT INTO profile_tally
SELECT user_id, 0, count(*), MIN(created_at), MAX(created_at) FROM {part} WHERE user_id IS NOT NULL GROUP BY user_id

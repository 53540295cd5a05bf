-- profiles.forget_tally: another comparison may follow in the same transaction.
DROP TABLE profile_tally

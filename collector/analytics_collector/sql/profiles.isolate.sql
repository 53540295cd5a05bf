-- profiles.isolate: one snapshot for all that follows; must come first in its transaction.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

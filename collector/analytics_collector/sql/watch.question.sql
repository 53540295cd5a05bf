-- watch.question: whether anybody answers.
SELECT 1

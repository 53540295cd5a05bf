-- overflow.months: those that most rows of the DEFAULT partition are of, unless they are few and far from today.
SELECT date_trunc('month', created_at, 'UTC')
FROM analytics_event_default
WHERE created_at >= '0001-02-01T00:00:00Z' AND created_at < '9999-12-01T00:00:00Z'
GROUP BY 1
HAVING date_trunc('month', created_at, 'UTC') BETWEEN %(oldest)s AND %(newest)s OR count(*) >= %(many)s
ORDER BY count(*) DESC, 1
LIMIT %(most)s

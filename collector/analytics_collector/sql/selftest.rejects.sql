-- selftest.rejects
SELECT count(*) FROM analytics_reject

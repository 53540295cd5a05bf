-- retention.trim_quotas: one row a key and day.
DELETE FROM analytics_quota WHERE day < %(before)s

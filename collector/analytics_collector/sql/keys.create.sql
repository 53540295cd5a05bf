-- keys.create
INSERT INTO analytics_key (name, kind, sha256, rate, daily, origins)
VALUES (%(name)s, %(kind)s, %(sha256)s, %(rate)s, %(daily)s, %(origins)s)

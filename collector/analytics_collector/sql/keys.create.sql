-- keys.create
INSERT INTO analytics_key (name, kind, sha256) VALUES (%(name)s, %(kind)s, %(sha256)s)

-- keys.register: the same name again takes the new key, so that a restart with another key just works.
INSERT INTO analytics_key (name, kind, sha256) VALUES (%(name)s, %(kind)s, %(sha256)s)
ON CONFLICT (name) DO UPDATE SET kind = EXCLUDED.kind, sha256 = EXCLUDED.sha256, revoked_at = NULL,
    former_sha256 = NULL

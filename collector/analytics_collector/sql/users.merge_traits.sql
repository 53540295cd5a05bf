-- users.merge_traits: key by key, the newer record winning whichever comes first.
INSERT INTO analytics_user AS u (id, traits, updated_at)
VALUES (%(id)s, %(traits)s::jsonb, %(updated_at)s)
ON CONFLICT (id) DO UPDATE SET
    traits = CASE
        WHEN u.updated_at > EXCLUDED.updated_at THEN EXCLUDED.traits || u.traits
        ELSE u.traits || EXCLUDED.traits
    END,
    updated_at = GREATEST(u.updated_at, EXCLUDED.updated_at)

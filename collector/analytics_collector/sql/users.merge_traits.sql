-- users.merge_traits: key by key, the newest wins, in whatever order they come.
WITH told AS (
    SELECT
        %(id)s::bigint AS id,
        %(traits)s::jsonb AS traits,
        COALESCE(
            (SELECT jsonb_object_agg(key, %(updated_at)s::timestamptz) FROM jsonb_object_keys(%(traits)s::jsonb) AS key),
            '{}'
        ) AS traits_at
)
INSERT INTO analytics_user AS u (id, traits, traits_at)
SELECT id, traits, traits_at FROM told
ON CONFLICT (id) DO UPDATE SET (traits, traits_at) = (
    SELECT
        u.traits || COALESCE(jsonb_object_agg(new.key, new.value), '{}'),
        u.traits_at || COALESCE(jsonb_object_agg(new.key, EXCLUDED.traits_at -> new.key), '{}')
    FROM jsonb_each(EXCLUDED.traits) AS new
    WHERE ((u.traits_at ->> new.key)::timestamptz > (EXCLUDED.traits_at ->> new.key)::timestamptz) IS NOT TRUE
)

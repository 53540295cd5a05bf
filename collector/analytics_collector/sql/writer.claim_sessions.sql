-- writer.claim_sessions: sessions that nobody owned until now, and their anonymous events. The sessions are locked
-- already (writer.upsert_sessions).
WITH told AS (
    SELECT session_id, user_id FROM json_to_recordset(%(sessions)s::json) AS told (session_id text, user_id bigint)
),
claimed AS (
    UPDATE analytics_session AS s
    SET user_id = told.user_id
    FROM told
    WHERE s.session_id = told.session_id AND s.user_id IS NULL
),
adopted AS (
    UPDATE analytics_event AS e
    SET user_id = told.user_id
    FROM told
    WHERE e.session_id = told.session_id AND e.user_id IS NULL
    RETURNING e.user_id, e.created_at
)
SELECT user_id, count(*), MIN(created_at), MAX(created_at) FROM adopted GROUP BY user_id

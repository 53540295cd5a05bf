-- overflow.watch: from COMMIT on, the key of every row of DEFAULT that comes, changes or goes is noted.
--
-- It waits for transactions that have written to DEFAULT, so a copy that begins afterwards sees all that was not noted.
CREATE TABLE analytics_event_changed (event_id uuid NOT NULL, created_at timestamptz NOT NULL);

CREATE FUNCTION analytics_note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO analytics_event_changed VALUES (OLD.event_id, OLD.created_at);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO analytics_event_changed VALUES (NEW.event_id, NEW.created_at);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER analytics_event_moving
AFTER INSERT OR UPDATE OR DELETE ON analytics_event_default
FOR EACH ROW EXECUTE FUNCTION analytics_note_change();

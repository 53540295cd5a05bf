-- migrate.user_table: for an app whose models share our tables. Its models save, get and delete by id.
CREATE VIEW analytics_known_user AS SELECT id FROM {user_table};
COMMENT ON VIEW analytics_known_user IS {name};

CREATE INDEX analytics_event_id ON analytics_event (id);

-- Deferrable because the app's ORM may want to defer; immediate because we want to hear of it at once.
ALTER TABLE analytics_event
    ADD CONSTRAINT analytics_event_user_id_fk FOREIGN KEY (user_id) REFERENCES {user_table} (id)
    DEFERRABLE INITIALLY IMMEDIATE;

ALTER TABLE analytics_session
    ADD CONSTRAINT analytics_session_user_id_fk FOREIGN KEY (user_id) REFERENCES {user_table} (id)
    DEFERRABLE INITIALLY IMMEDIATE;

ALTER TABLE analytics_useranalyticsprofile
    ADD CONSTRAINT analytics_useranalyticsprofile_user_id_fk FOREIGN KEY (user_id) REFERENCES {user_table} (id)
    DEFERRABLE INITIALLY IMMEDIATE;

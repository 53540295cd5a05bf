-- 0003: limits, browser keys and rotation on the key itself, and what each key has sent today.

ALTER TABLE analytics_key
    ADD COLUMN rate bigint CHECK (rate > 0),  -- records a second; null is no limit
    ADD COLUMN daily bigint CHECK (daily > 0),  -- records a day, in UTC; null is no limit
    ADD COLUMN origins text[] NOT NULL DEFAULT '{}',  -- web pages that may use a browser key
    ADD COLUMN former_sha256 bytea,  -- the key before the last rotation
    ADD COLUMN former_until timestamptz;  -- until when it opens the door as well

ALTER TABLE analytics_key
    DROP CONSTRAINT analytics_key_kind_check,
    ADD CONSTRAINT analytics_key_kind_check CHECK (kind IN ('write', 'browser', 'read', 'admin'));

CREATE TABLE analytics_quota (
    key_name text,
    day date,
    events bigint NOT NULL,
    PRIMARY KEY (key_name, day)
);

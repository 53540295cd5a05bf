-- selftest.make_schema: the comment tells ours from one that somebody else gave such a name.
CREATE SCHEMA {schema};
COMMENT ON SCHEMA {schema} IS 'analytics-collector selftest; may be dropped';

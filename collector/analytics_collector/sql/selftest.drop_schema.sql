-- selftest.drop_schema
DROP SCHEMA IF EXISTS {schema} CASCADE

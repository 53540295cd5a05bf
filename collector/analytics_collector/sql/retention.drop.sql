-- retention.drop
DROP TABLE {partition}

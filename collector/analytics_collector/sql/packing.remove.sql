-- packing.remove
DROP INDEX CONCURRENTLY {index}

-- packing.rebuild
REINDEX INDEX CONCURRENTLY {index}

-- packing.fill: hardly anything will be added, so that no page needs room for it.
ALTER INDEX {index} SET (fillfactor = 100)

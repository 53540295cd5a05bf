-- packing.note
COMMENT ON INDEX {index} IS 'packed'

-- packing.end_patience
RESET lock_timeout

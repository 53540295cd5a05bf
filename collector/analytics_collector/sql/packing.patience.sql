-- packing.patience
SELECT set_config('lock_timeout', '60s', false)

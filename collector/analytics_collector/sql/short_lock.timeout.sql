-- short_lock.timeout: rather give up than make writers queue behind us. Milliseconds; the rest of 100 is for the work.
SELECT set_config('lock_timeout', '50ms', true)

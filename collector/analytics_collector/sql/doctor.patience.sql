-- doctor.patience: no question may take long, as somebody waits for the answer.
SELECT set_config('statement_timeout', %(patience)s, false), set_config('lock_timeout', %(patience)s, false)

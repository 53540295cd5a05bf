-- vitals.reads_only: true on a standby, and where transactions are read-only by default.
SELECT current_setting('transaction_read_only')::boolean

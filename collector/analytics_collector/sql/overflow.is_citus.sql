-- overflow.is_citus: distributed tables take no triggers of ours.
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')

-- doctor.role: its name, whether it may do everything, and whether it may do what the tables' owner may.
SELECT current_user::text, rolsuper, pg_has_role(relowner, 'USAGE')
FROM pg_roles, pg_class
WHERE rolname = current_user AND pg_class.oid = 'analytics_event'::regclass

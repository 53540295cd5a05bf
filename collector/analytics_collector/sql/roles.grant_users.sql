-- roles.grant_users: which users the app has (migrate --user-table made the view); no other column of theirs.
GRANT SELECT ON analytics_known_user TO {role}

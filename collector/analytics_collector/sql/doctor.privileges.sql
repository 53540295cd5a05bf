-- doctor.privileges: what this role lacks. Writers make temporary tables.
SELECT privilege || ' on ' || relation
FROM unnest(%(relations)s::text[], %(privileges)s::text[]) AS needed (relation, privilege)
WHERE to_regclass(relation) IS NOT NULL AND NOT has_table_privilege(relation, privilege)
UNION ALL
SELECT 'TEMPORARY on database ' || current_database()
WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')

-- doctor.privileges: what this role lacks.
SELECT privilege || ' on ' || relation
FROM unnest(%(relations)s::text[], %(privileges)s::text[]) AS needed (relation, privilege)
WHERE to_regclass(relation) IS NOT NULL AND NOT has_table_privilege(relation, privilege)

-- profiles.tally: what one part of the tables says about its users. More memory than usual keeps the sums off the disk.
SELECT set_config('work_mem', '64MB', true);

CREATE TEMP TABLE profile_tally (
    user_id bigint NOT NULL,
    sessions bigint NOT NULL,
    events bigint NOT NULL,
    first_seen timestamptz,
    last_seen timestamptz
) ON COMMIT DROP;

-- What is known of the clock that the service goes by: one row.

-- `boot` names the start of the machine that wrote last, and `above_boot_ms` is its time less the time since then, which only
-- setting the clock changes; both are NULL where the time is the database's. The time was last doubted at `doubted_at`, for the
-- reason in `doubt`. Rows of times up to `known_ahead` are known to be of a clock that was ahead.
CREATE TABLE clock (
    singleton BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    boot TEXT,
    above_boot_ms BIGINT,
    doubted_at BIGINT,
    doubt TEXT,
    known_ahead BIGINT NOT NULL DEFAULT 0
);
INSERT INTO clock (singleton) VALUES (1);

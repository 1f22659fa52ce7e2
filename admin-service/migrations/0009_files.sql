-- Random, and another with each revision: a database that was put in the place of another may have its epoch and its revision, and
-- has not its stamp.
ALTER TABLE history ADD COLUMN stamp BIGINT NOT NULL DEFAULT 0;
-- Whether there ever was an administrator. Until then the database may be one that was made by accident, in the place of another:
-- a token that it does not know is not an unknown one.
ALTER TABLE history ADD COLUMN bootstrapped BIGINT NOT NULL DEFAULT 0 CHECK (bootstrapped IN (0, 1));
UPDATE history SET bootstrapped = 1 WHERE revision > 0 OR EXISTS (SELECT 1 FROM users);

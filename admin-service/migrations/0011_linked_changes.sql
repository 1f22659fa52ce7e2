-- What ties each change to the history that it was made in. One who has heard of a revision sees by the next one's `previous_stamp`
-- whether that follows the revision it has heard, or another one of the same number: a standby that was promoted lacks what the
-- primary had not sent it yet, and gives its numbers to other changes.

-- The stamp that the history had before its latest revision.
ALTER TABLE history ADD COLUMN previous_stamp BIGINT NOT NULL DEFAULT 0;
-- The stamp that the history had with the revision and before it, in each of the revision's rows; NULL where a release before this
-- migration has written them.
ALTER TABLE changes ADD COLUMN stamp BIGINT;
ALTER TABLE changes ADD COLUMN previous_stamp BIGINT;

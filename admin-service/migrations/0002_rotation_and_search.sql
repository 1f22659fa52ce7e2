-- Tokens that succeed each other, and what a search compares.

-- The token that it succeeds.
ALTER TABLE tokens ADD COLUMN rotated_from TEXT;
-- The last token that was made to succeed it. One that was rotated is not counted as one of its user's.
ALTER TABLE tokens ADD COLUMN rotated_to TEXT;
-- Name and description in lower case, where they are not all ASCII: of those that are, the databases tell it alike.
ALTER TABLE tokens ADD COLUMN folded TEXT;

-- Those that were revoked, in pages.
CREATE INDEX tokens_revoked ON tokens (id) WHERE revoked_at IS NOT NULL;
-- As before, with all that counting asks for now.
DROP INDEX tokens_unrevoked;
CREATE INDEX tokens_unrevoked ON tokens (user_id, expires_at, created_at, revoked_at, rotated_to) WHERE revoked_at IS NULL;

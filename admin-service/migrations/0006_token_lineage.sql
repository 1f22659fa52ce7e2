-- Which token made which, which successors are in use, and an end for all that is kept.

-- The token that it was made with, or the nearest of that one's own makers that is still there; NULL: no token made it.
ALTER TABLE tokens ADD COLUMN made_by TEXT;
CREATE INDEX tokens_by_maker ON tokens (made_by) WHERE made_by IS NOT NULL;
-- When a token that succeeds another was first looked up. From then on no repeated rotation takes its place.
ALTER TABLE tokens ADD COLUMN in_use_since BIGINT;
-- Revoked tokens that never expire, by when they are due for deletion.
CREATE INDEX tokens_revoked_by_time ON tokens (revoked_at, id) WHERE revoked_at IS NOT NULL AND expires_at IS NULL;

-- Whether a token may make others that expire later than itself.
ALTER TABLE restrictions ADD COLUMN outlive_maker BIGINT NOT NULL DEFAULT 0 CHECK (outlive_maker IN (0, 1));

-- When a user was deleted. Of those who were before, the audit log tells it, or they count from its latest entry.
ALTER TABLE users ADD COLUMN deleted_at BIGINT;
UPDATE users SET deleted_at = COALESCE(
    (SELECT MAX(a.at) FROM audit a WHERE a.subject = users.name AND a.action = 'user.deleted'),
    (SELECT MAX(a.at) FROM audit a),
    0
) WHERE deleted = 1;
CREATE INDEX users_deleted ON users (deleted_at, id) WHERE deleted_at IS NOT NULL;

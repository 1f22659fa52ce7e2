-- Limits of single users, and what a dry run of limits reads.

-- A user's own limits, in place of those of the restrictions: NULL is as the restrictions say, -1 is no limit.
ALTER TABLE users ADD COLUMN own_max_lifetime_ms BIGINT;
ALTER TABLE users ADD COLUMN own_max_tokens BIGINT;
-- The users who have some, who are few.
CREATE INDEX users_with_limits ON users (id, own_max_lifetime_ms, own_max_tokens)
    WHERE own_max_lifetime_ms IS NOT NULL OR own_max_tokens IS NOT NULL;
-- As before, with the token itself, for examples of what a limit would touch.
DROP INDEX tokens_unrevoked;
CREATE INDEX tokens_unrevoked ON tokens (user_id, expires_at, created_at, revoked_at, rotated_to, id)
    WHERE revoked_at IS NULL;

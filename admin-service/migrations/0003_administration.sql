-- What administrators count and set: figures over all tokens, and limits of single users.

-- Which tokens are due for deletion, and with the next index the statuses of all tokens: each token is in one of the two,
-- and counting asks for nothing that is not in them.
DROP INDEX tokens_by_expiry;
CREATE INDEX tokens_by_expiry ON tokens (expires_at, id, revoked_at) WHERE expires_at IS NOT NULL;
CREATE INDEX tokens_without_expiry ON tokens (id, revoked_at) WHERE expires_at IS NULL;

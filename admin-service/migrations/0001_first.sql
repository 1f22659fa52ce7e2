-- The first schema, one text for SQLite and PostgreSQL; only BLOB becomes BYTEA for the latter.
-- Times are Unix milliseconds, identifiers UUIDs as text, flags 0 or 1.

-- The one counter of changes that can alter a verdict. The epoch names the history that it counts in. What the revisions
-- after `retained_after` touched is in `changes`, all of it.
CREATE TABLE history (
    singleton BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch TEXT NOT NULL,
    revision BIGINT NOT NULL,
    retained_after BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    email_address TEXT,
    time_zone TEXT NOT NULL,
    active BIGINT NOT NULL CHECK (active IN (0, 1)),
    deleted BIGINT NOT NULL CHECK (deleted IN (0, 1)),
    created_at BIGINT NOT NULL,
    CHECK (deleted = 0 OR active = 0)
);

-- Schemes, scopes and networks are lists separated by spaces, which none of them can contain.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    hint TEXT NOT NULL,
    schemes TEXT NOT NULL,
    scopes TEXT NOT NULL,
    allowed_cidrs TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

-- A user's tokens in pages.
CREATE INDEX tokens_by_user ON tokens (user_id, id);
-- How many live tokens a user has, and which have expired. All that those statements ask for is in the index.
CREATE INDEX tokens_unrevoked ON tokens (user_id, expires_at, created_at, revoked_at) WHERE revoked_at IS NULL;
-- Which tokens may be administrators'.
CREATE INDEX tokens_of_admins ON tokens (user_id) WHERE scopes LIKE '%latchkey:admin%';
-- Which tokens are due for deletion.
CREATE INDEX tokens_by_expiry ON tokens (expires_at, id) WHERE expires_at IS NOT NULL;

-- The token hashes that each revision touched.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    token_hash BLOB NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (revision, token_hash)
);

-- Which changes are old enough to be forgotten.
CREATE INDEX changes_by_time ON changes (at, revision);

-- The edges that have reported usage: the number of the last report that was counted, and when that was.
CREATE TABLE edges (
    name TEXT NOT NULL PRIMARY KEY,
    last_sequence BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- Which edges have not reported for long.
CREATE INDEX edges_by_time ON edges (seen_at, name);

-- Requests by the hour in which they were reported, of all tokens together. An hour is the time of its beginning.
CREATE TABLE usage_hours (
    hour BIGINT NOT NULL PRIMARY KEY,
    allowed BIGINT NOT NULL,
    denied BIGINT NOT NULL
);

CREATE TABLE restrictions (
    singleton BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    max_lifetime_ms BIGINT,
    max_tokens_per_user BIGINT,
    delete_expired_enabled BIGINT NOT NULL CHECK (delete_expired_enabled IN (0, 1)),
    delete_expired_after_ms BIGINT NOT NULL,
    delete_expired_every_ms BIGINT NOT NULL
);

-- The defaults: 365 days, 10 tokens, expired tokens deleted after 30 days, hourly.
INSERT INTO restrictions VALUES (1, 31536000000, 10, 1, 2592000000, 3600000);

-- Entries are found by their identifiers, which begin with their time.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    token_id TEXT,
    address TEXT,
    request_id TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL
);

CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_action ON audit (action, id);
CREATE INDEX audit_by_subject ON audit (subject, id);

-- Which replica runs a job, and until when it may without saying so again.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- What each job last did. When it runs next follows from that and its settings.
CREATE TABLE jobs (
    name TEXT NOT NULL PRIMARY KEY,
    last_run_at BIGINT,
    last_deleted BIGINT,
    last_error TEXT
);

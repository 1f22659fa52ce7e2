-- The unit that each period was written in, so that it reads back as it was put: s, m, h, d or w. Where none is stored, it is
-- written in the largest of s, m, h and d that divides it.
ALTER TABLE restrictions ADD COLUMN max_lifetime_unit TEXT;
ALTER TABLE restrictions ADD COLUMN delete_expired_after_unit TEXT;
ALTER TABLE restrictions ADD COLUMN delete_expired_every_unit TEXT;
ALTER TABLE users ADD COLUMN own_max_lifetime_unit TEXT;

-- Periods are whole seconds now. A limit gets stricter by less than a second, what is kept is kept for less than one more.
UPDATE restrictions SET
    max_lifetime_ms = max_lifetime_ms - max_lifetime_ms % 1000,
    delete_expired_after_ms = delete_expired_after_ms + (1000 - delete_expired_after_ms % 1000) % 1000,
    delete_expired_every_ms = delete_expired_every_ms + (1000 - delete_expired_every_ms % 1000) % 1000;
UPDATE users SET own_max_lifetime_ms = own_max_lifetime_ms - own_max_lifetime_ms % 1000 WHERE own_max_lifetime_ms >= 1000;

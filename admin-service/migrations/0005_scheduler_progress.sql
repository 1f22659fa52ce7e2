-- How far a run has come that holds a lease.
ALTER TABLE leases ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;

-- What the caller calls the request; request_id is the service's own.
ALTER TABLE audit ADD COLUMN client_request_id TEXT;

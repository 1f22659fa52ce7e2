//! How many files the process may have open: each connection is one.

/// Enough for as many connections as the listeners allow, and for what else is open.
const WANTED: u64 = 18_000;

/// Raises the limit as far as the operating system lets it, and says so where that is too little.
pub fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= WANTED => {}
        Ok(limit) => tracing::warn!(
            limit,
            wanted = WANTED,
            "few files may be open at a time, so few edges can connect: raise the limit (ulimit -n, LimitNOFILE=)"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

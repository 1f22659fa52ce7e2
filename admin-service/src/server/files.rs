//! How many files the process may have open: each connection is one.

use rlimit::Resource;

use crate::feed::PLACES;

/// What is open beside the connections of edges: those of the other listeners, the database, the log.
const OTHERS: u64 = 600;
/// The most connections of edges: each Envoy worker has one for the change feed and one for questions.
const MOST: usize = 2 * PLACES;
/// How few there may be, however low the limit is.
const FEWEST: usize = 64;

/// Raises the limit as far as the operating system lets it, and says so where that is too little.
pub fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let connections = edge_connections();
    if connections < PLACES {
        tracing::warn!(
            connections,
            "few files may be open at a time, so no more connections of edges than these: raise the limit \
             (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// How many connections of edges there may be, so that some files are left for everything else.
pub fn edge_connections() -> usize {
    let limit = Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(OTHERS)).unwrap_or(MOST).clamp(FEWEST, MOST)
}

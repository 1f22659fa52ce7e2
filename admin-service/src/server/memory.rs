//! How the operating system gives the service its memory.

/// Has it given in small pages. Of the large ones that Linux likes to give, thousands of waiting connections use a part each: they
/// would take half as much again.
pub fn keep_to_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory may come in large pages");
    }
}

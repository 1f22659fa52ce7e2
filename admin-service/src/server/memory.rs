//! How the operating system gives the service its memory.

/// Has it given in small pages. Of the large ones that Linux likes to give, thousands of waiting connections use a part each: they
/// would take half as much again.
pub fn keep_to_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory may come in large pages");
    }
}

/// Keeps what is in memory, which is also tokens and secrets, out of core files, and debuggers of the same user out of the process.
pub fn hide_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "other processes of this user may read the memory, tokens and secrets included");
    }
    if let Err(error) = rlimit::Resource::CORE.set(0, 0) {
        tracing::warn!(%error, "core files cannot be forbidden, and would hold tokens and secrets");
    }
}

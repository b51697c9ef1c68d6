//! How is memory given back that was needed for a moment only?

/// Returns to the kernel what the allocator keeps in case it is needed again:
/// reading the kernel's types, or every socket of a host, takes some forty
/// megabytes for a moment, and what watches takes ten for weeks.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions and frees only what is unused.
    unsafe {
        libc::malloc_trim(0)
    };
}

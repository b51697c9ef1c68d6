//! File systems that tracer needs and this host has not mounted.
//!
//! They are mounted in a mount namespace of tracer's own, where nobody else
//! sees them, and only for as long as programs are being attached.

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::Path,
};

/// A private view of the file system; dropping it returns to the host's.
pub(crate) struct PrivateView {
    host: File,
}

impl PrivateView {
    /// Mounts what is missing of tracefs and cgroup2, if anything is.
    /// `None`: nothing was missing.
    ///
    /// # Errors
    /// Mount namespaces are not permitted (CAP_SYS_ADMIN) or the kernel lacks
    /// the file systems; the caller goes on without.
    pub(crate) fn with_missing_mounts(mountinfo: &str) -> io::Result<Option<Self>> {
        let is_mounted = |kind: &str| mountinfo.contains(&format!(" - {kind} "));
        let needs_tracefs = !is_mounted("tracefs") && Path::new("/sys/kernel/tracing").is_dir();
        let needs_cgroup2 = !is_mounted("cgroup2") && Path::new("/sys/fs/cgroup").is_dir();
        if !needs_tracefs && !needs_cgroup2 {
            return Ok(None);
        }
        let view = Self {
            host: File::open("/proc/self/ns/mnt")?,
        };
        // SAFETY: unshare has no memory effects; this process has one thread.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
        if needs_tracefs {
            mount(c"tracefs", c"/sys/kernel/tracing", Some(c"tracefs"), 0)?;
        }
        if needs_cgroup2 {
            mount(c"cgroup2", c"/sys/fs/cgroup", Some(c"cgroup2"), 0)?;
        }
        Ok(Some(view))
    }
}

impl Drop for PrivateView {
    fn drop(&mut self) {
        let directory = fs::read_link("/proc/self/cwd");
        // SAFETY: setns has no memory effects; the descriptor is open.
        unsafe { libc::setns(self.host.as_raw_fd(), libc::CLONE_NEWNS) };
        // Entering a mount namespace moves to its root; a command that is to be
        // run must start where tracer did.
        if let Ok(directory) = directory {
            let _ = std::env::set_current_dir(directory);
        }
    }
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is a NUL-terminated string or null, as mount(2)
    // allows for these flags.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind,
            flags,
            std::ptr::null(),
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

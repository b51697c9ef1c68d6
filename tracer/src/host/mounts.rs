//! File systems that tracer needs and this host has not mounted.
//!
//! They are mounted in a mount namespace of tracer's own, where nobody else
//! sees them, and only for as long as programs are being attached.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::mountinfo;

/// Where tracefs may be mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Whether tracefs can be read.
///
/// # Errors
/// It is mounted and may not be read, or it is not mounted.
pub(crate) fn tracefs_is_readable() -> io::Result<()> {
    let mut result = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "tracefs is not mounted",
    ));
    for path in TRACEFS {
        match fs::read_dir(path).map(|mut entries| entries.next()) {
            Ok(Some(_)) => return Ok(()),
            // A directory that something could be mounted at.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                // The first one that is there counts.
                if result.as_ref().is_err_and(is_not_found) {
                    let why = format!("{path} cannot be read: {error}");
                    result = Err(io::Error::new(error.kind(), why));
                }
            }
        }
    }
    result
}

fn is_not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

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
        let is_mounted = |kind| mountinfo::mount_of(mountinfo, kind).is_some();
        let needs_tracefs = !is_mounted("tracefs") && is_directory("/sys/kernel/tracing")?;
        let needs_cgroup2 = !is_mounted("cgroup2") && is_directory("/sys/fs/cgroup")?;
        if !needs_tracefs && !needs_cgroup2 {
            return Ok(None);
        }
        let view = Self {
            host: File::open("/proc/self/ns/mnt")?,
        };
        // SAFETY: of all that can be unshared only a change of memory or of
        // descriptors could break safe code; this is neither.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )?;
        let mount = |kind: &str, path: &str| mount(kind, path, kind, MountFlags::empty(), None);
        if needs_tracefs {
            mount("tracefs", "/sys/kernel/tracing")?;
        }
        if needs_cgroup2 {
            mount("cgroup2", "/sys/fs/cgroup")?;
        }
        Ok(Some(view))
    }
}

/// # Errors
/// What is there may not be looked at.
fn is_directory(path: &str) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
    }
}

impl Drop for PrivateView {
    fn drop(&mut self) {
        let directory = fs::read_link("/proc/self/cwd");
        let _ = move_into_link_name_space(self.host.as_fd(), Some(LinkNameSpaceType::Mount));
        // Entering a mount namespace moves to its root; a command that is to be
        // run must start where tracer did.
        if let Ok(directory) = directory {
            let _ = std::env::set_current_dir(directory);
        }
    }
}

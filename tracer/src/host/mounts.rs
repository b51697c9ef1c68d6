//! File systems that tracer needs and this host has not mounted.
//!
//! They are mounted in a mount namespace of tracer's own, where nobody else
//! sees them, and only for as long as programs are being attached.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::mountinfo;

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
        let needs_tracefs = !is_mounted("tracefs") && Path::new("/sys/kernel/tracing").is_dir();
        let needs_cgroup2 = !is_mounted("cgroup2") && Path::new("/sys/fs/cgroup").is_dir();
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

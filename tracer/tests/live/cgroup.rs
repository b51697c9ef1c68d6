//! Private cgroups.

use anyhow::{Context as _, Result};

use crate::case::Skip;
use crate::role::Role;

/// A directory below cgroup2, removed again. It has to be empty by then.
pub(crate) struct Group(pub(crate) String);

impl Group {
    /// Skips where there is no cgroup2, or none of it can be had.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = format!("{}/{name}", mount()?);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                Err(Skip::because("cgroup2 is not writable"))
            }
            other => other.with_context(|| path.clone()).map(|()| Self(path)),
        }
    }

    /// Moves a role there.
    pub(crate) fn join(&self, role: &Role) -> Result<()> {
        role.ok(&format!("join {}/cgroup.procs", self.0))
            .map(|_| ())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Where cgroup2 is mounted.
fn mount() -> Result<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(str::to_owned)
        .ok_or_else(|| Skip::because("no cgroup2 is mounted"))
}

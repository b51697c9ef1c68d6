//! Which network namespaces are there, and how does one look inside?

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Every process id in /proc.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Inode number of the network namespace of a process.
pub(crate) fn of_process(pid: u32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Every namespace that a process is in, with a way to it.
pub(crate) fn inhabited() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for pid in pids() {
        if let Some(inum) = of_process(pid) {
            found
                .entry(inum)
                .or_insert_with(|| PathBuf::from(format!("/proc/{pid}/ns/net")));
        }
    }
    found
}

/// Namespaces that have a name, as `ip netns add` gives it, whether a process
/// is in them or not.
pub(crate) fn named() -> BTreeMap<u32, PathBuf> {
    names_in("/run/netns")
}

/// What Docker calls those of its containers. The host's is among them.
pub(crate) fn named_by_docker() -> BTreeMap<u32, PathBuf> {
    names_in("/run/docker/netns")
}

fn names_in(directory: &str) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            Some((u32::try_from(fs::metadata(&path).ok()?.ino()).ok()?, path))
        })
        .collect()
}

/// Every namespace there is a way to.
pub(crate) fn all() -> BTreeMap<u32, PathBuf> {
    let mut all = named();
    all.extend(inhabited());
    all
}

/// A way to the namespace with this inode number, if there is one.
pub(crate) fn find(inum: u32) -> Option<PathBuf> {
    if of_process(std::process::id()) == Some(inum) {
        return Some(PathBuf::from("/proc/self/ns/net"));
    }
    all().remove(&inum)
}

/// Runs `work` on a thread that enters the namespace at `path` and then ends.
/// To enter its own namespace again nobody needs to be allowed to.
///
/// # Errors
/// The namespace is gone, or may not be entered; and what `work` fails with.
pub(crate) fn inside<T: Send>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = File::open(path)?;
    let own = File::open("/proc/thread-self/ns/net")?;
    let is_own = own.metadata()?.ino() == namespace.metadata()?.ino();
    let thread = move || {
        if !is_own {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        drop(namespace);
        work()
    };
    std::thread::scope(|scope| scope.spawn(thread).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread inside ended early")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_is_found() {
        let own = of_process(std::process::id());
        assert!(own.is_some_and(|own| find(own).is_some() && all().contains_key(&own)));
        assert_eq!(find(1), None);
    }

    #[test]
    fn a_way_to_nowhere_is_an_error() {
        assert!(inside(Path::new("/proc/self/ns/nothing"), || Ok(())).is_err());
        assert!(inside(Path::new("/proc/self/status"), || Ok(())).is_err());
    }
}

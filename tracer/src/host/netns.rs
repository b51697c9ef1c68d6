//! Which network namespaces are there, and how does one look inside?

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::model::Netns;

/// The process that causes failures to verify the hooks, and the inode number of its
/// network namespace; 0: none.
static VERIFIER: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Leaves a process, and with it the namespace that it alone is in, out of everything
/// that tracer looks at from now on.
pub(crate) fn hide_verifier(pid: u32) {
    VERIFIER[0].store(pid, Ordering::Relaxed);
}

/// Sets which namespace [`is_verification`] recognises; 0: none.
pub(crate) fn set_verification(inum: u32) {
    VERIFIER[1].store(inum, Ordering::Relaxed);
}

/// Whether tracer causes failures in this namespace itself. Nobody is to see those.
pub(crate) fn is_verification(inum: u32) -> bool {
    inum != 0 && VERIFIER[1].load(Ordering::Relaxed) == inum
}

/// Every process id in /proc, but for the process that verifies the hooks.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let hidden = VERIFIER[0].load(Ordering::Relaxed);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid != hidden)
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

/// Every namespace that a process is in, with the first such process.
pub(crate) fn first_inside() -> BTreeMap<u32, u32> {
    let mut found = BTreeMap::new();
    for pid in pids() {
        if let Some(inum) = of_process(pid) {
            found.entry(inum).or_insert(pid);
        }
    }
    found
}

/// The cookie of the namespace that the calling thread is in, which no other namespace
/// ever has; 0: the kernel does not tell it (before 5.14).
pub(crate) fn cookie_here() -> u64 {
    const SO_NETNS_COOKIE: i32 = 71;
    let Ok(socket) = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        None,
    ) else {
        return 0;
    };
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(0);
    // SAFETY: `cookie` and `size` are valid for writing, and `size` is that of `cookie`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if answer == 0 { cookie } else { 0 }
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

/// Every namespace there is a way to. A name stays, a process may end.
pub(crate) fn all() -> BTreeMap<u32, PathBuf> {
    let mut all = inhabited();
    all.extend(named());
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

/// The same in each of these namespaces, on one thread; `None`: that one is gone, or may
/// not be entered.
pub(crate) fn inside_each<T: Send>(
    paths: &[&Path],
    work: impl Fn() -> T + Send + Sync,
) -> Vec<Option<T>> {
    let visit = |path: &Path| {
        let namespace = File::open(path).ok()?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
        drop(namespace);
        Some(work())
    };
    let thread = || paths.iter().map(|path| visit(path)).collect();
    std::thread::scope(|scope| scope.spawn(thread).join()).unwrap_or_default()
}

/// The same inside the namespace with this inode number. The process that was the way
/// to it may end before it is taken; then there may be another.
///
/// # Errors
/// `NotFound`: there is no way to it; else as above.
pub(crate) fn inside_of<T: Send>(
    netns: Netns,
    work: impl Fn() -> io::Result<T> + Sync,
) -> io::Result<T> {
    // Where the kernel tells no cookie, an event has something else in its place.
    let is_it = || match cookie_here() {
        0 => true,
        cookie => netns.cookie == 0 || cookie == netns.cookie,
    };
    let work = || match is_it() {
        true => work(),
        false => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the network namespace is gone, and another one has its inode number",
        )),
    };
    for _ in 0..ATTEMPTS {
        let Some(path) = find(netns.inum) else { break };
        match inside(&path, || Ok(work())) {
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
            Ok(done) => return done,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "no process that tracer can look into is in the network namespace",
    ))
}

/// So many processes may end just then.
const ATTEMPTS: usize = 4;

/// Whether the way into a namespace was gone when it was taken.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_is_found() {
        let own = of_process(std::process::id());
        assert!(own.is_some_and(|own| find(own).is_some() && all().contains_key(&own)));
        assert_eq!(find(1), None);
        let gone = inside_of(Netns::of_inode(1), || Ok(())).map_err(|error| error.kind());
        assert_eq!(gone, Err(io::ErrorKind::NotFound));
        // What fails inside is no reason to look for another way.
        let tries = std::sync::atomic::AtomicU32::new(0);
        let failed = own.map(|own| {
            inside_of(Netns::of_inode(own), || {
                tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Err::<(), _>(io::Error::from_raw_os_error(libc::ENOENT))
            })
        });
        assert!(failed.is_some_and(|failed| failed.is_err()));
        assert_eq!(tries.into_inner(), 1);
    }

    #[test]
    fn a_way_to_nowhere_is_an_error() {
        assert!(inside(Path::new("/proc/self/ns/nothing"), || Ok(())).is_err());
        assert!(inside(Path::new("/proc/self/status"), || Ok(())).is_err());
    }
}

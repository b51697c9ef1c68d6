//! Which sockets do processes have open? /proc/PID/fd tells.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt};

use super::netns::pids;

/// A socket that a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) fd: i32,
    /// The N of `socket:[N]`.
    pub(crate) inode: u64,
}

/// The sockets of one process; none if it is gone, or another user's and not
/// ours to read.
pub(crate) fn of(pid: u32) -> Vec<Descriptor> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some(Descriptor {
                fd: entry.file_name().to_str()?.parse().ok()?,
                inode: socket_inode(target.as_os_str().as_bytes())?,
            })
        })
        .collect()
}

/// The pids of all that have a socket which `wanted` names, by its inode; pid 1
/// last, because it opens sockets on behalf of the services it starts.
pub(crate) fn holders(wanted: impl Fn(u64) -> bool) -> HashMap<u64, Vec<u32>> {
    let mut found: HashMap<u64, Vec<u32>> = HashMap::new();
    for pid in pids() {
        let mut held: Vec<u64> = of(pid)
            .into_iter()
            .map(|descriptor| descriptor.inode)
            .filter(|inode| wanted(*inode))
            .collect();
        held.sort_unstable();
        held.dedup();
        for inode in held {
            found.entry(inode).or_default().push(pid);
        }
    }
    for holders in found.values_mut() {
        holders.sort_unstable_by_key(|pid| (*pid == 1, *pid));
    }
    found
}

/// The number in `socket:[N]`.
pub(crate) fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn reads_socket_links() {
        assert_eq!(socket_inode(b"socket:[123]"), Some(123));
        for other in [
            &b"pipe:[1]"[..],
            b"socket:[]",
            b"socket:[1",
            b"/dev/null",
            b"\xff",
        ] {
            assert_eq!(socket_inode(other), None);
        }
    }

    #[test]
    fn this_process_holds_its_socket() -> std::io::Result<()> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let own = std::process::id();
        let found = of(own).into_iter().find(|one| one.fd == socket.as_raw_fd());
        let inode = found.map(|one| one.inode).unwrap_or_default();
        let holders = holders(|candidate| candidate == inode);
        assert_eq!(holders.get(&inode), Some(&vec![own]));
        Ok(())
    }
}

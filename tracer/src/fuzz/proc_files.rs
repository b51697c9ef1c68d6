//! Everything that reads texts of /proc, for fuzzing.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    attribute::{holders, namespaces, process},
    host::{descriptors, mountinfo, proc_net, settings},
};

/// `/proc/PID/stat`: the name, the start time in ticks, whether it is a thread of the
/// kernel's.
#[must_use]
pub fn stat(text: &[u8]) -> Option<(Vec<u8>, u64, bool)> {
    let stat = process::parse_stat(text)?;
    Some((stat.comm, stat.start, stat.is_kernel_thread))
}

/// `/proc/PID/cmdline`: what is kept of it.
#[must_use]
pub fn arguments(cmdline: &[u8]) -> Vec<u8> {
    process::join_arguments(cmdline.to_vec())
}

/// `/proc/PID/status`: whose it is.
#[must_use]
pub fn uid(status: &[u8]) -> Option<u32> {
    process::real_uid(status)
}

/// A row of `/proc/net/tcp` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// As the kernel numbers them.
    pub state: u8,
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// 0: no process has it.
    pub inode: u64,
    /// Whose it is.
    pub uid: u32,
    /// Bytes to be sent and to be read; of listeners other things.
    pub queues: [u32; 2],
    /// Until the timer ends.
    pub timer_ms: u32,
}

/// A row of `/proc/net/tcp` and its like.
#[must_use]
pub fn socket(row: &str) -> Option<Socket> {
    let row = proc_net::row(row)?;
    Some(Socket {
        state: row.state,
        local: row.local,
        remote: row.remote,
        inode: row.inode,
        uid: row.uid,
        queues: [row.send_queue, row.receive_queue],
        timer_ms: row.timer_ms,
    })
}

/// The same row: the inode of a listener.
#[must_use]
pub fn listener(row: &str) -> Option<u64> {
    holders::listening_row(row)
}

/// `/proc/net/netstat`: overflows, drops, and full request queues.
#[must_use]
pub fn netstat(text: &str) -> Option<[u64; 3]> {
    let netstat = namespaces::parse(text)?;
    Some([
        netstat.listen_overflows,
        netstat.listen_drops,
        netstat.req_qfull_drop,
    ])
}

/// `/proc/self/mountinfo`: where a file system of this kind is.
#[must_use]
pub fn mount_of(text: &str, kind: &str) -> Option<PathBuf> {
    mountinfo::mount_of(text, kind)
}

/// `/proc/self/mountinfo`: where the whole of cgroup2 is.
#[must_use]
pub fn cgroup2_root(text: &str) -> Option<PathBuf> {
    mountinfo::cgroup2_root(text)
}

/// `/proc/self/mountinfo`: the option of /proc.
#[must_use]
pub fn hidepid(text: &str) -> Option<String> {
    mountinfo::hidepid(text)
}

/// `ip_local_port_range`
#[must_use]
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    settings::pair(text)
}

/// `ip_local_reserved_ports`
#[must_use]
pub fn reserved_ports(text: &str) -> Vec<(u16, u16)> {
    settings::ranges(text)
}

/// What `/proc/PID/fd/N` points to: the inode of a socket.
#[must_use]
pub fn socket_inode(link: &[u8]) -> Option<u64> {
    descriptors::socket_inode(link)
}

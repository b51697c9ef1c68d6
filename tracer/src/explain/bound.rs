//! Which sockets are bound but unused, on kernels that do not list them?
//!
//! No table of the kernel has them, so each socket of a process that no table
//! lists is copied (`pidfd_getfd`), asked for its address and let go. The copy
//! lives for microseconds; it keeps a socket open that its process closes just
//! then for that much longer.

use std::{
    collections::HashSet,
    fs::File,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use rustix::{
    net::{getsockname, ipproto, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::host::{
    descriptors, netns,
    sock_diag::{Row, state},
};

/// The bound but unused TCP sockets, each with the namespace it is in, and why
/// some may be missing. `listed`: inodes of the sockets that the kernel's tables
/// list.
pub(crate) fn unlisted(listed: &HashSet<u64>) -> (Vec<(u32, Row)>, Option<String>) {
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    let mut refused = None;
    for pid in netns::pids() {
        if pid == std::process::id() {
            continue;
        }
        let is_new = |inode| !listed.contains(&inode) && !seen.contains(&inode);
        let mut unknown = descriptors::of(pid);
        unknown.retain(|descriptor| is_new(descriptor.inode));
        if unknown.is_empty() {
            continue;
        }
        let Some(process) = open(pid) else {
            continue;
        };
        for descriptor in unknown {
            if !seen.insert(descriptor.inode) {
                continue;
            }
            match look_at(process.as_fd(), descriptor) {
                Ok(row) => rows.extend(row),
                Err(error) if is_gone(&error) => {}
                Err(error) => refused = Some(error),
            }
        }
    }
    let why = refused.map(|error| format!("sockets of some processes could not be asked: {error}"));
    (rows, why)
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// The process, or the descriptor, went away since it was listed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EBADF))
}

/// One socket with its namespace, if it is a bound and unused TCP socket.
fn look_at(
    process: BorrowedFd<'_>,
    descriptor: descriptors::Descriptor,
) -> io::Result<Option<(u32, Row)>> {
    let copy = pidfd_getfd(process, descriptor.fd, PidfdGetfdFlags::empty())?;
    let Ok(protocol) = sockopt::socket_protocol(&copy) else {
        // The number was given to something else since: no socket.
        return Ok(None);
    };
    if protocol != Some(ipproto::TCP) {
        return Ok(None);
    }
    let Ok(Ok(name)) = getsockname(&copy).map(SocketAddr::try_from) else {
        return Ok(None);
    };
    if name.port() == 0 || !is_unused(copy.as_fd()) {
        return Ok(None);
    }
    let row = Row {
        state: state::BOUND_INACTIVE,
        local: SocketAddr::new(name.ip().to_canonical(), name.port()),
        remote: SocketAddr::from(([0, 0, 0, 0], 0)),
        is_ipv6: name.is_ipv6(),
        inode: descriptor.inode,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer_ms: 0,
        drops: None,
    };
    Ok(Some((namespace_of(copy.as_fd())?, row)))
}

/// Whether the socket is closed and never sent a segment. One that did, and was
/// reset, still shows the port that it no longer has (`inet_put_port` clears
/// `inet_num` only, net/ipv4/inet_hashtables.c).
fn is_unused(socket: BorrowedFd<'_>) -> bool {
    /// `tcpi_segs_out` in `struct tcp_info` (include/uapi/linux/tcp.h).
    const SEGMENTS_OUT: usize = 136;
    let mut info = [0_u8; 256];
    let mut length: libc::socklen_t = 256;
    // SAFETY: the pointers are to `length` writable bytes and to their length.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    answer == 0 && info[0] == state::CLOSE && info[SEGMENTS_OUT..SEGMENTS_OUT + 4] == [0; 4]
}

/// Inode number of the network namespace of a socket, which need not be that of
/// the process that has it.
fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// include/uapi/linux/sockios.h
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: this request has no argument; it returns a new descriptor.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else owns it.
    let namespace = File::from(unsafe { OwnedFd::from_raw_fd(answer) });
    u32::try_from(namespace.metadata()?.ino()).map_err(io::Error::other)
}

//! A failure as everything downstream of attribution sees it.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tracer_common::{Cause, Family, Hook, Kind};

/// A network namespace, for good: the kernel gives inode numbers out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Netns {
    /// Inode number of its `/proc/PID/ns/net`, which is what people see.
    pub(crate) inum: u32,
    /// What no other namespace has, as in [`tracer_common::Event::netns_cookie`];
    /// 0: not known.
    pub(crate) cookie: u64,
}

impl Netns {
    /// The one with this inode number whose life is not known.
    pub(crate) const fn of_inode(inum: u32) -> Self {
        Self { inum, cookie: 0 }
    }
}

/// How a process came to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It made the call that failed.
    Caller,
    /// It last accepted from the listener.
    Acceptor,
    /// It called `listen()`.
    Listener,
    /// It holds the socket.
    Holder,
}

impl Role {
    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Acceptor => "acceptor",
            Self::Listener => "listener",
            Self::Holder => "holder",
        }
    }
}

/// A process. Names are bytes: they are whatever the process chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Process id in the initial pid namespace; 0: the kernel itself.
    pub(crate) pid: u32,
    /// Thread that called, where that is known.
    pub(crate) tid: Option<u32>,
    pub(crate) comm: Vec<u8>,
    /// `None`: gone, or not readable.
    pub(crate) exe: Option<Vec<u8>>,
    /// Arguments joined by blanks; `None`: gone, or not readable.
    pub(crate) cmdline: Option<Vec<u8>>,
    pub(crate) uid: Option<u32>,
    /// A kernel thread, or a socket that only the kernel holds.
    pub(crate) kernel: bool,
    /// Where it belongs; `None`: gone, or not readable.
    pub(crate) place: Option<Arc<Place>>,
}

impl Process {
    /// The kernel, for sockets that no process holds.
    pub(crate) fn kernel(comm: &[u8]) -> Self {
        Self {
            comm: comm.to_vec(),
            kernel: true,
            ..Self::default()
        }
    }
}

/// Where a process belongs. Names and paths are whatever those chose who made the
/// cgroup; invalid UTF-8 is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path as `/proc/PID/cgroup` shows it.
    pub(crate) cgroup: String,
    pub(crate) container: Option<Container>,
    /// The innermost systemd unit, within the container if there is one.
    pub(crate) unit: Option<String>,
    /// Of Kubernetes.
    pub(crate) pod: Option<Pod>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// 64 hexadecimal digits, or a name where the runtime goes by names (LXC,
    /// systemd-nspawn).
    pub(crate) id: String,
    /// `docker`, `containerd`, `cri-o`, `podman`, `lxc`, `nspawn`; `None`: an id
    /// without a word about who runs it.
    pub(crate) runtime: Option<Cow<'static, str>>,
    /// `None`: not told by any file.
    pub(crate) name: Option<String>,
}

impl Container {
    /// What people call it: its name, else the first twelve characters of its id.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| {
            let end = self.id.char_indices().nth(12).map(|(end, _)| end);
            &self.id[..end.unwrap_or(self.id.len())]
        })
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    /// `None`: not told by any file; so with the next.
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}

/// What `listen()` was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// As given; the kernel takes a negative number for the largest.
    pub(crate) backlog: i32,
    /// `net.core.somaxconn` at that moment.
    pub(crate) somaxconn: u32,
}

impl Asked {
    /// The accept queue's limit that follows (`__sys_listen`, net/socket.c).
    pub(crate) fn limit(self) -> u32 {
        self.backlog.cast_unsigned().min(self.somaxconn)
    }
}

/// Length and limit of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) len: u32,
    pub(crate) max: u32,
}

/// One failure, attributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// When; of several the end of the time in which they were counted.
    pub(crate) time: Timestamp,
    /// So many failures: 1, or those that were counted and not described one by one.
    pub(crate) count: u64,
    /// Of several: the begin of that time.
    pub(crate) since: Option<Timestamp>,
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    pub(crate) hook: Hook,
    /// What the caller saw.
    pub(crate) errno: Option<u16>,
    /// Who is responsible.
    pub(crate) process: Option<(Process, Role)>,
    /// Every process that holds the listener, for queue drops.
    pub(crate) holders: Vec<Process>,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    /// What no other namespace has; see [`Netns`].
    pub(crate) netns_cookie: u64,
    /// What people call it; `None`: nothing.
    pub(crate) netns_name: Option<Arc<str>>,
    pub(crate) family: Family,
    /// IP protocol number.
    pub(crate) protocol: u16,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// Inode number of the socket.
    pub(crate) inode: Option<u64>,
    pub(crate) accept_queue: Option<Queue>,
    pub(crate) request_queue: Option<Queue>,
    /// The connection used a syncookie.
    pub(crate) syncookie: bool,
    /// What `listen()` was called with, for queue drops.
    pub(crate) asked: Option<Asked>,
    /// The socket's own `IP_LOCAL_PORT_RANGE`.
    pub(crate) own_range: Option<(u16, u16)>,
    /// The census that explains it.
    pub(crate) census: Option<u64>,
    /// The finding about its listener.
    pub(crate) queue: Option<u64>,
}

impl Failure {
    /// Its network namespace.
    pub(crate) fn life(&self) -> Netns {
        Netns {
            inum: self.netns,
            cookie: self.netns_cookie,
        }
    }
}

#[cfg(any(test, feature = "bench"))]
impl Failure {
    /// Some failure, for tests and the bench to change.
    pub(crate) fn example() -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            count: 1,
            since: None,
            kind: Kind::ConnectFailed,
            cause: Cause::PortsExhausted,
            hook: Hook::FexitInetHashConnect,
            errno: Some(99),
            process: None,
            holders: Vec::new(),
            netns: 1,
            netns_cookie: 0,
            netns_name: None,
            family: Family::V4,
            protocol: 6,
            local: Some(SocketAddr::from(([10, 0, 0, 1], 0))),
            remote: Some(SocketAddr::from(([10, 0, 0, 2], 5432))),
            inode: Some(7),
            accept_queue: None,
            request_queue: None,
            syncookie: false,
            asked: None,
            own_range: None,
            census: None,
            queue: None,
        }
    }
}

/// The symbolic name of an errno that tracer reports.
pub(crate) fn errno_name(errno: u16) -> Option<&'static str> {
    match i32::from(errno) {
        libc::EADDRINUSE => Some("EADDRINUSE"),
        libc::EADDRNOTAVAIL => Some("EADDRNOTAVAIL"),
        _ => None,
    }
}

/// Reasons why `accept()` fails that have a name in records (accept(2)).
const ACCEPT_ERRNOS: &[(i32, &str)] = &[
    (libc::EMFILE, "EMFILE"),
    (libc::ENFILE, "ENFILE"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EPERM, "EPERM"),
    (libc::EINVAL, "EINVAL"),
    (libc::EFAULT, "EFAULT"),
    (libc::EPROTO, "EPROTO"),
];

/// The symbolic name of an errno of `accept()`, else its number.
pub(crate) fn accept_errno_name(errno: u16) -> String {
    let mut names = ACCEPT_ERRNOS.iter();
    match names.find(|(number, _)| *number == i32::from(errno)) {
        Some((_, name)) => (*name).to_owned(),
        None => errno.to_string(),
    }
}

/// The reverse of [`accept_errno_name`].
pub(crate) fn accept_errno_named(name: &str) -> Option<u16> {
    let known = ACCEPT_ERRNOS.iter().find(|(_, known)| *known == name);
    match known {
        Some((number, _)) => u16::try_from(*number).ok(),
        None => name.parse().ok(),
    }
}

/// Name of an IP protocol in records.
pub(crate) fn protocol_name(protocol: u16) -> &'static str {
    match i32::from(protocol) {
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        libc::IPPROTO_MPTCP => "mptcp",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backlog_becomes() {
        let limit = |backlog, somaxconn| Asked { backlog, somaxconn }.limit();
        assert_eq!(limit(2, 4096), 2);
        assert_eq!(limit(0, 4096), 0);
        assert_eq!(limit(9000, 4096), 4096);
        assert_eq!(limit(-1, 4096), 4096);
        assert_eq!(limit(i32::MIN, 128), 128);
    }
}

//! One failure as the kernel side describes it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Declares a one-byte tag with a total `from_u8`, so that decoding any byte
/// yields a known variant or nothing.
macro_rules! tag {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value),+ }

        impl $name {
            /// Every variant, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The variant with this number, if there is one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }

            /// The stable name used in records and on the terminal.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

tag! {
    /// What failed.
    Kind {
        /// `connect()` (or a connect inside `sendto`, io_uring, MPTCP) failed.
        ConnectFailed = 1 => "connect_failed",
        /// `bind()` failed.
        BindFailed = 2 => "bind_failed",
        /// `listen()` failed.
        ListenFailed = 3 => "listen_failed",
        /// A SYN was dropped by a listener.
        SynDropped = 4 => "syn_dropped",
        /// The final ACK of a handshake was dropped by a listener.
        AckDropped = 5 => "ack_dropped",
        /// The final ACK of a handshake was answered with RST because the
        /// accept queue was full and `tcp_abort_on_overflow` is set.
        OverflowReset = 6 => "overflow_reset",
    }
}

impl Kind {
    /// One more than the highest number.
    pub const LEN: u32 = Self::OverflowReset as u32 + 1;

    /// Whether a listener dropped a packet, rather than a call failing.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::SynDropped | Self::AckDropped | Self::OverflowReset
        )
    }
}

tag! {
    /// Why it failed.
    Cause {
        /// The ephemeral port search found no free port.
        PortsExhausted = 1 => "ports_exhausted",
        /// The socket's port was fixed and the 4-tuple is in use.
        AddressTaken = 2 => "address_taken",
        /// No usable source address for the route.
        NoSourceAddress = 3 => "no_source_address",
        /// A cgroup or LSM program chose this errno; the stack never did.
        RefusedByPolicy = 4 => "refused_by_policy",
        /// The address is not configured on this host.
        AddressNotLocal = 5 => "address_not_local",
        /// The port asked for is taken.
        PortInUse = 6 => "port_in_use",
        /// The accept queue is full.
        AcceptQueueFull = 7 => "accept_queue_full",
        /// The request (SYN) queue is full and syncookies are off.
        RequestQueueFull = 8 => "request_queue_full",
        /// Syncookies are off and only the last quarter of
        /// `tcp_max_syn_backlog` is left, kept for proven peers.
        BacklogReserve = 9 => "backlog_reserve",
        /// None of the above: allocation, routing, security module.
        Other = 10 => "other",
    }
}

tag! {
    /// Address family of the addresses in an [`Event`]. A v4-mapped address
    /// arrives as [`Family::V4`].
    Family {
        /// No address is known.
        None = 0 => "none",
        /// IPv4: the first four bytes of the address fields.
        V4 = 4 => "ipv4",
        /// IPv6: all sixteen bytes.
        V6 = 6 => "ipv6",
    }
}

tag! {
    /// The hook that saw the failure.
    Hook {
        /// Return of `inet_hash_connect`, fexit.
        FexitInetHashConnect = 1 => "fexit inet_hash_connect",
        /// Return of `inet6_hash_connect`, fexit.
        FexitInet6HashConnect = 2 => "fexit inet6_hash_connect",
        /// Return of `tcp_v6_connect`, fexit.
        FexitTcpV6Connect = 3 => "fexit tcp_v6_connect",
        /// Return of `__sys_connect_file`, fexit.
        FexitSysConnectFile = 4 => "fexit __sys_connect_file",
        /// Return of `__inet_bind`, fexit.
        FexitInetBind = 5 => "fexit __inet_bind",
        /// Return of `__inet6_bind`, fexit.
        FexitInet6Bind = 6 => "fexit __inet6_bind",
        /// Return of `inet_csk_listen_start`, fexit.
        FexitListenStart = 7 => "fexit inet_csk_listen_start",
        /// Return of `tcp_conn_request`, fexit.
        FexitConnRequest = 8 => "fexit tcp_conn_request",
        /// Entry of `tcp_v4_syn_recv_sock`, fentry.
        FentryV4SynRecvSock = 9 => "fentry tcp_v4_syn_recv_sock",
        /// Entry of `tcp_v6_syn_recv_sock`, fentry.
        FentryV6SynRecvSock = 10 => "fentry tcp_v6_syn_recv_sock",
        /// Return of `__inet_hash_connect`, kretprobe.
        KretInetHashConnect = 11 => "kretprobe __inet_hash_connect",
        /// Return of `tcp_v6_connect`, kretprobe.
        KretTcpV6Connect = 12 => "kretprobe tcp_v6_connect",
        /// Return of `__sys_connect_file`, kretprobe.
        KretSysConnectFile = 13 => "kretprobe __sys_connect_file",
        /// Return of `__inet_bind`, kretprobe.
        KretInetBind = 14 => "kretprobe __inet_bind",
        /// Return of `__inet6_bind`, kretprobe.
        KretInet6Bind = 15 => "kretprobe __inet6_bind",
        /// Return of `inet_csk_listen_start`, kretprobe.
        KretListenStart = 16 => "kretprobe inet_csk_listen_start",
        /// Return of `tcp_conn_request`, kretprobe.
        KretConnRequest = 17 => "kretprobe tcp_conn_request",
        /// Entry of `tcp_v4_syn_recv_sock`, kprobe.
        KprobeV4SynRecvSock = 18 => "kprobe tcp_v4_syn_recv_sock",
        /// Entry of `tcp_v6_syn_recv_sock`, kprobe.
        KprobeV6SynRecvSock = 19 => "kprobe tcp_v6_syn_recv_sock",
        /// Raw tracepoint `inet_sock_set_state`.
        RawTpSetState = 20 => "raw_tp inet_sock_set_state",
        /// Tracepoint `sys_exit_connect`.
        TpSysExitConnect = 21 => "tp sys_exit_connect",
        /// Tracepoint `sys_exit_bind`.
        TpSysExitBind = 22 => "tp sys_exit_bind",
        /// Tracepoint `sys_exit_listen`.
        TpSysExitListen = 23 => "tp sys_exit_listen",
        /// Tracepoints `sys_exit_accept` and `sys_exit_accept4`; no failure is seen there.
        TpSysExitAccept = 25 => "tp sys_exit_accept",
        /// `cgroup_skb/ingress` at the cgroup2 root.
        CgroupSkbIngress = 24 => "cgroup_skb ingress",
    }
}

/// Bits of [`Event::flags`] and [`Task::flags`].
pub mod flag {
    /// [`super::Task`]: the task is a kernel thread (`PF_KTHREAD`).
    pub const KERNEL_THREAD: u32 = 1;
    /// [`super::Task`]: the process in [`crate::Filter::ancestor`] is an ancestor of the
    /// task.
    pub const DESCENDANT: u32 = 2;
    /// [`super::Event`]: no file refers to the socket, so it was made inside
    /// the kernel (or is the subflow of an MPTCP socket).
    pub const KERNEL_SOCKET: u8 = 1;
    /// [`super::Event`]: the connection used a syncookie.
    pub const SYNCOOKIE: u8 = 2;
    /// [`super::Event`]: `asked` and `somaxconn` are known.
    pub const ASKED: u8 = 4;
}

/// A process as seen by the kernel at the moment of a hook. All zero when
/// unknown.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Task {
    /// Thread group id (the process id of user space) in the initial pid
    /// namespace; 0: unknown.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// See [`flag`].
    pub flags: u32,
    /// When the process (its group leader) started: nanoseconds of
    /// `CLOCK_BOOTTIME`. With the pid this names a process for good.
    pub start_ns: u64,
    /// Name of the group leader, NUL-padded; any bytes (`prctl(PR_SET_NAME)`).
    pub comm: [u8; 16],
}

/// One failure. Fields that a kind has no use for are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// When: nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Inode number of the socket (`socket:[N]` in `/proc/PID/fd`); 0: none.
    pub inode: u64,
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`), which no other one ever
    /// has; on kernels without cookies its random `hash_mix`; 0: neither is known.
    pub netns_cookie: u64,
    /// Inode number of the network namespace (`/proc/PID/ns/net`); given out again
    /// when the namespace is gone.
    pub netns: u32,
    /// Accept queue length when the decision was taken.
    pub accept_len: u32,
    /// Accept queue limit (`listen()` backlog capped by somaxconn). The kernel
    /// admits one more than this.
    pub accept_max: u32,
    /// Request queue length when the decision was taken.
    pub request_len: u32,
    /// Request queue limit that applied.
    pub request_max: u32,
    /// `tcp_max_syn_backlog` of the namespace for [`Cause::BacklogReserve`].
    pub max_syn_backlog: u32,
    /// Local address, network order; see [`Family`].
    pub local: [u8; 16],
    /// Remote address, network order; see [`Family`].
    pub remote: [u8; 16],
    /// Local port, host order; 0: none.
    pub local_port: u16,
    /// Remote port, host order; 0: none.
    pub remote_port: u16,
    /// IP protocol number (6 TCP, 17 UDP, 262 MPTCP).
    pub protocol: u16,
    /// Positive errno that the caller saw; 0: none.
    pub errno: u16,
    /// [`Kind`].
    pub kind: u8,
    /// [`Cause`].
    pub cause: u8,
    /// [`Hook`].
    pub hook: u8,
    /// [`Family`].
    pub family: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Who called; zero for queue drops, where the running task is a bystander.
    pub caller: Task,
    /// Who called `listen()`, if tracer saw it; queue drops only.
    pub listener: Task,
    /// Who last called `accept()`, if tracer saw it; queue drops only.
    pub acceptor: Task,
    /// Connections that `accept()` returned of this listener, since tracer first saw it;
    /// queue drops only.
    pub accepts: u64,
    /// `accept()` calls that failed for another reason than an empty queue or a signal,
    /// likewise.
    pub accept_failures: u64,
    /// The backlog that `listen()` was called with; see [`flag::ASKED`].
    pub asked: i32,
    /// `net.core.somaxconn` at that moment; see [`flag::ASKED`].
    pub somaxconn: u32,
    /// First port of the socket's own `IP_LOCAL_PORT_RANGE`; 0: none set.
    pub own_low: u16,
    /// Last port of it; 0: none set.
    pub own_high: u16,
    /// Positive errno of the last of `accept_failures`; 0: there were none.
    pub accept_errno: u16,
    /// Zero.
    pub pad2: u16,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Task>() == 40);
    assert!(align_of::<Task>() == 8);
    assert!(offset_of!(Task, start_ns) == 16);
    assert!(offset_of!(Task, comm) == 24);
    assert!(size_of::<Event>() == 248);
    assert!(offset_of!(Event, accepts) == 216);
    assert!(offset_of!(Event, own_low) == 240);
    assert!(align_of::<Event>() == 8);
    assert!(offset_of!(Event, netns_cookie) == 16);
    assert!(offset_of!(Event, netns) == 24);
    assert!(offset_of!(Event, local) == 48);
    assert!(offset_of!(Event, remote) == 64);
    assert!(offset_of!(Event, local_port) == 80);
    assert!(offset_of!(Event, kind) == 88);
    assert!(offset_of!(Event, caller) == 96);
    assert!(offset_of!(Event, listener) == 136);
    assert!(offset_of!(Event, acceptor) == 176);
};

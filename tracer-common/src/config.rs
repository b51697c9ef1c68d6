//! What user space learned from the running kernel's BTF before loading, and
//! which failures it wants described.
//!
//! The eBPF side sees these as constants (`.rodata`, frozen before load), so a
//! field that is [`ABSENT`] costs nothing: the verifier removes the branch.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Declares [`Config`] and the list of its fields with the kernel names they
/// stand for, so that user space fills it by walking one table.
macro_rules! config {
    ($($(#[$doc:meta])* $field:ident),+ $(,)?) => {
        /// Byte offsets (or [`ABSENT`]) and switches; all `u32`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Config { $($(#[$doc])* pub $field: u32),+ }

        impl Config {
            /// Nothing known.
            pub const EMPTY: Self = Self { $($field: ABSENT),+ };
        }
    };
}

config! {
    /// `sock_common.skc_daddr`
    sk_daddr,
    /// `sock_common.skc_rcv_saddr`
    sk_rcv_saddr,
    /// `sock_common.skc_hash`
    sk_hash,
    /// `sock_common.skc_dport`
    sk_dport,
    /// `sock_common.skc_num`
    sk_num,
    /// `sock_common.skc_family`
    sk_family,
    /// `sock_common.skc_state`
    sk_state,
    /// `sock_common.skc_net.net`
    sk_net,
    /// `sock_common.skc_v6_daddr`
    sk_v6_daddr,
    /// `sock_common.skc_v6_rcv_saddr`
    sk_v6_rcv_saddr,
    /// `sock_common.skc_listener` (of a request socket)
    sk_listener,
    /// `sock.sk_protocol` (u16 since 5.6)
    sk_protocol,
    /// `sock.sk_ack_backlog`
    sk_ack_backlog,
    /// `sock.sk_max_ack_backlog`
    sk_max_ack_backlog,
    /// `sock.sk_socket`
    sk_socket,
    /// `inet_sock.local_port_range`: low and high as two u16 (since 6.1 by
    /// back-port, else 6.3)
    inet_local_port_range,
    /// `inet_connection_sock.icsk_accept_queue.qlen`
    icsk_qlen,
    /// `inet_connection_sock.icsk_accept_queue.rskq_defer_accept`
    icsk_defer_accept,
    /// `tcp_sock.rx_opt.ts_recent_stamp`
    tp_ts_recent_stamp,
    /// `sock.sk_reuseport_cb`
    sk_reuseport_cb,
    /// `sock_reuseport.synq_overflow_ts`
    reuseport_synq_overflow_ts,
    /// `tcp_request_sock.rcv_isn`
    treq_rcv_isn,
    /// `tcp_request_sock.rcv_nxt`
    treq_rcv_nxt,
    /// `sock_common.skc_rcv_wnd` (of a request socket)
    req_rcv_wnd,
    /// The byte behind `request_sock.num_retrans`: `syncookie` in bit 0, `num_timeout`
    /// in the others
    req_num_timeout,
    /// `tcp_request_sock.snt_isn`
    treq_snt_isn,
    /// `socket.sk`
    socket_sk,
    /// `socket.state`
    socket_state,
    /// `socket.file`
    socket_file,
    /// `socket_alloc.vfs_inode.i_ino`, from the start of the `socket` inside
    socket_ino,
    /// `net.ns.inum`
    net_inum,
    /// `net.net_cookie`, where it is a plain u64 that the namespace has from the start
    /// (since 5.14); before it is an atomic that stays 0 until somebody asks
    net_cookie,
    /// `net.hash_mix`: u32, random, the same for as long as the namespace lives
    net_hash_mix,
    /// `net.ipv4.sysctl_tcp_syncookies` (u8)
    net_syncookies,
    /// `net.ipv4.sysctl_tcp_abort_on_overflow` (u8)
    net_abort_on_overflow,
    /// `net.ipv4.sysctl_max_syn_backlog`
    net_max_syn_backlog,
    /// `net.core.sysctl_somaxconn`
    net_somaxconn,
    /// `sk_buff.head`
    skb_head,
    /// `sk_buff.network_header` (u16)
    skb_network_header,
    /// `sk_buff.transport_header` (u16)
    skb_transport_header,
    /// `task_struct.group_leader`
    task_leader,
    /// `task_struct.start_boottime`
    task_start,
    /// `task_struct.comm`
    task_comm,
    /// `task_struct.flags`
    task_flags,
    /// `task_struct.files`
    task_files,
    /// `task_struct.real_parent`
    task_parent,
    /// `task_struct.tgid`
    task_tgid,
    /// `files_struct.fdt`
    files_fdt,
    /// `fdtable.max_fds`
    fdt_max_fds,
    /// `fdtable.fd`
    fdt_fd,
    /// `file.private_data`
    file_private,
    /// `file.f_inode`
    file_inode,
    /// `inode.i_mode` (u16)
    inode_mode,
    /// Number of the syscall in `pt_regs`
    regs_number,
    /// First syscall argument in `pt_regs`
    regs_arg0,
    /// Second syscall argument in `pt_regs`
    regs_arg1,
    /// 1: `bpf_task_pt_regs` exists, so syscall arguments are read at exit
    has_task_pt_regs,
    /// Ticks of `jiffies` a second
    hz,
}

const _: () = assert!(core::mem::size_of::<Config>().is_multiple_of(4));

/// How many values of one kind [`Filter`] has room for.
pub const FILTER_VALUES: usize = 8;

/// Which failures are described; all are counted. Constants like [`Config`]: what
/// is not asked for costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Filter {
    /// Bit N: [`crate::Kind`] N.
    pub kinds: u32,
    /// Bit N: [`crate::Cause`] N.
    pub causes: u32,
    /// Inode numbers of network namespaces, then zeros; all zero: every one.
    pub netns: [u32; FILTER_VALUES],
    /// Process ids of callers, then zeros; all zero: everyone. Drops have no caller,
    /// and of a kernel thread only user space knows for whom it works: both pass.
    pub callers: [u32; FILTER_VALUES],
    /// Only failures of descendants of the process with this id, and of listeners; 0: of
    /// everyone. Tasks below it have [`crate::flag::DESCENDANT`].
    pub ancestor: u32,
}

impl Filter {
    /// All failures.
    pub const EVERYTHING: Self = Self {
        kinds: u32::MAX,
        causes: u32::MAX,
        netns: [0; FILTER_VALUES],
        callers: [0; FILTER_VALUES],
        ancestor: 0,
    };
}

const _: () = assert!(core::mem::size_of::<Filter>() == 12 + 8 * FILTER_VALUES);

//! What the running kernel is made of. Probed, never inferred from a version;
//! nothing is decided here.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use tracer_common::{ABSENT, Config};

use super::{
    btf::{Function, KernelTypes},
    clock, mountinfo,
};

/// Functions whose presence and argument count a plan may depend on.
pub(crate) const FUNCTIONS: &[&str] = &[
    "__inet6_bind",
    "__inet_bind",
    "__inet_hash_connect",
    "__sys_connect_file",
    "bpf_get_current_task_btf",
    "bpf_task_pt_regs",
    "inet6_hash_connect",
    "inet_csk_accept",
    "inet_csk_listen_start",
    "inet_hash_connect",
    "tcp_conn_request",
    "tcp_openreq_init_rwin",
    "tcp_v4_syn_recv_sock",
    "tcp_v6_connect",
    "tcp_v6_syn_recv_sock",
];

/// Structs whose members [`Config`] locates.
const STRUCTS: &[&str] = &[
    "fdtable",
    "file",
    "files_struct",
    "inet_connection_sock",
    "inet_sock",
    "inode",
    "net",
    "pt_regs",
    "request_sock",
    "sk_buff",
    "sock",
    "sock_common",
    "sock_reuseport",
    "socket",
    "socket_alloc",
    "task_struct",
    "tcp_request_sock",
    "tcp_sock",
];

/// Everything a plan is made from.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Member offsets, as the eBPF side will see them.
    pub(crate) config: Config,
    /// Those of [`FUNCTIONS`] that exist.
    pub(crate) functions: BTreeMap<&'static str, Function>,
    /// Root of the cgroup2 hierarchy, if it is mounted.
    pub(crate) cgroup2: Option<PathBuf>,
}

impl Facts {
    /// Facts that the kernel's types alone tell; the rest is left out.
    ///
    /// # Errors
    /// The bytes are not BTF.
    pub(crate) fn from_btf(bytes: &[u8]) -> Result<Self> {
        let types = KernelTypes::parse(bytes, STRUCTS, FUNCTIONS)?;
        let functions: BTreeMap<_, _> = FUNCTIONS
            .iter()
            .filter_map(|name| Some((*name, types.function(name)?)))
            .collect();
        let mut config = offsets(&types);
        let helpers = ["bpf_get_current_task_btf", "bpf_task_pt_regs"];
        config.has_task_pt_regs =
            u32::from(helpers.iter().all(|helper| functions.contains_key(helper)));
        Ok(Self {
            config,
            functions,
            cgroup2: None,
        })
    }

    /// Adds how long this kernel's tick is, which the resolution of its coarse clocks
    /// tells.
    pub(crate) fn with_tick(mut self) -> Self {
        if let Some(hz) = clock::ticks_a_second() {
            self.config.hz = hz;
        }
        self
    }

    /// Adds what `/proc/self/mountinfo` tells.
    pub(crate) fn with_mounts(mut self, mountinfo: &str) -> Self {
        self.cgroup2 = mountinfo::cgroup2_root(mountinfo);
        self
    }
}

/// Fills [`Config`] from the types; what a kernel lacks stays [`ABSENT`].
fn offsets(types: &KernelTypes<'_>) -> Config {
    let at = |structure, path| types.offset(structure, path).unwrap_or(ABSENT);
    let socket_in_alloc = at("socket_alloc", "socket");
    let ino_in_alloc = at("socket_alloc", "vfs_inode.i_ino");
    Config {
        sk_daddr: at("sock_common", "skc_daddr"),
        sk_rcv_saddr: at("sock_common", "skc_rcv_saddr"),
        sk_hash: at("sock_common", "skc_hash"),
        sk_dport: at("sock_common", "skc_dport"),
        sk_num: at("sock_common", "skc_num"),
        sk_family: at("sock_common", "skc_family"),
        sk_state: at("sock_common", "skc_state"),
        sk_net: at("sock_common", "skc_net.net"),
        sk_v6_daddr: at("sock_common", "skc_v6_daddr"),
        sk_v6_rcv_saddr: at("sock_common", "skc_v6_rcv_saddr"),
        sk_listener: at("sock_common", "skc_listener"),
        sk_protocol: at("sock", "sk_protocol"),
        sk_ack_backlog: at("sock", "sk_ack_backlog"),
        sk_max_ack_backlog: at("sock", "sk_max_ack_backlog"),
        sk_socket: at("sock", "sk_socket"),
        inet_local_port_range: at("inet_sock", "local_port_range"),
        icsk_qlen: at("inet_connection_sock", "icsk_accept_queue.qlen.counter"),
        icsk_defer_accept: at(
            "inet_connection_sock",
            "icsk_accept_queue.rskq_defer_accept",
        ),
        tp_ts_recent_stamp: at("tcp_sock", "rx_opt.ts_recent_stamp"),
        sk_reuseport_cb: at("sock", "sk_reuseport_cb"),
        reuseport_synq_overflow_ts: at("sock_reuseport", "synq_overflow_ts"),
        treq_rcv_isn: at("tcp_request_sock", "rcv_isn"),
        treq_rcv_nxt: at("tcp_request_sock", "rcv_nxt"),
        req_rcv_wnd: at("sock_common", "skc_rcv_wnd"),
        req_num_timeout: match at("request_sock", "num_retrans") {
            ABSENT => ABSENT,
            retransmits => retransmits.saturating_add(1),
        },
        treq_snt_isn: at("tcp_request_sock", "snt_isn"),
        socket_sk: at("socket", "sk"),
        socket_state: at("socket", "state"),
        socket_file: at("socket", "file"),
        socket_ino: match (socket_in_alloc, ino_in_alloc) {
            (ABSENT, _) | (_, ABSENT) => ABSENT,
            (socket, ino) => ino.saturating_sub(socket),
        },
        net_inum: at("net", "ns.inum"),
        // An atomic64_t has a member `counter`, and is filled in only when asked for.
        net_cookie: match at("net", "net_cookie.counter") {
            ABSENT => at("net", "net_cookie"),
            _ => ABSENT,
        },
        net_hash_mix: at("net", "hash_mix"),
        net_syncookies: at("net", "ipv4.sysctl_tcp_syncookies"),
        net_abort_on_overflow: at("net", "ipv4.sysctl_tcp_abort_on_overflow"),
        net_max_syn_backlog: at("net", "ipv4.sysctl_max_syn_backlog"),
        net_somaxconn: at("net", "core.sysctl_somaxconn"),
        skb_head: at("sk_buff", "head"),
        skb_network_header: at("sk_buff", "network_header"),
        skb_transport_header: at("sk_buff", "transport_header"),
        task_leader: at("task_struct", "group_leader"),
        task_start: at("task_struct", "start_boottime"),
        task_comm: at("task_struct", "comm"),
        task_flags: at("task_struct", "flags"),
        task_files: at("task_struct", "files"),
        task_parent: at("task_struct", "real_parent"),
        task_tgid: at("task_struct", "tgid"),
        files_fdt: at("files_struct", "fdt"),
        fdt_max_fds: at("fdtable", "max_fds"),
        fdt_fd: at("fdtable", "fd"),
        file_private: at("file", "private_data"),
        file_inode: at("file", "f_inode"),
        inode_mode: at("inode", "i_mode"),
        regs_number: at("pt_regs", "orig_ax"),
        regs_arg0: at("pt_regs", "di"),
        regs_arg1: at("pt_regs", "si"),
        has_task_pt_regs: 0,
        hz: ABSENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_btf() {
        for bytes in [&b""[..], b"\x9f\xeb", &[0xff; 64]] {
            assert!(Facts::from_btf(bytes).is_err());
        }
    }
}

//! Who closes connections? A `TIME_WAIT` socket belongs to no process, but it
//! was in `FIN_WAIT1` before, and that state is entered where the process calls
//! `close()` or `shutdown()`, or ends (`__tcp_close`, `tcp_shutdown`,
//! net/ipv4/tcp.c).

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{Closer, CloserKey, slot};

use super::{IPPROTO_TCP, TCP_FIN_WAIT1};
use crate::{
    emit::add,
    kernel::{Sock, current_start, current_task},
    maps::{CLOSERS, CLOSING},
};

/// match-proto: inet_sock_set_state(const struct sock *, const int, const int)
#[raw_tracepoint]
pub fn raw_tp_closer(ctx: RawTracePointContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    // close() after shutdown() sets the state once more (tcp_close_state).
    let begins = ctx.arg::<i32>(1) != TCP_FIN_WAIT1 && ctx.arg::<i32>(2) == TCP_FIN_WAIT1;
    if begins && sk.protocol() == IPPROTO_TCP {
        remember(sk);
    }
    0
}

#[inline(always)]
fn remember(sk: Sock) {
    let (local, remote, net) = sk.connection();
    let key = CloserKey {
        local: local.ip,
        remote: remote.ip,
        netns: net.inum(),
        local_port: local.port,
        remote_port: remote.port,
    };
    let closer = Closer {
        start_ns: current_start(),
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        pad: 0,
    };
    if CLOSING.get_ptr(closer).is_none() {
        // Another CPU may be first; then this fails and the entry is there.
        let _ = CLOSING.insert(closer, current_task(), BPF_NOEXIST as u64);
    }
    add(match CLOSERS.insert(key, closer, 0) {
        Ok(()) => slot::CLOSERS,
        Err(_) => slot::CLOSERS_LOST,
    });
}

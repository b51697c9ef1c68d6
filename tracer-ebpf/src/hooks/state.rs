//! The portable tier's view of `connect()` and `listen()`: the raw tracepoint
//! `inet_sock_set_state(sk, oldstate, newstate)`.
//!
//! A port search that fails shows as CLOSE → SYN_SENT → CLOSE inside one call:
//! the `struct socket` still says unconnected, and `skc_hash`, which is written
//! when the 4-tuple enters the connection table and at no other time, is what
//! it was. The only other errno with that picture is ENOMEM for a bind bucket.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::Hook;

use super::{IPPROTO_TCP, TCP_CLOSE, TCP_LISTEN, TCP_SYN_SENT, connect::search_failed_with};
use crate::{
    emit::Ends,
    kernel::Sock,
    listeners,
    maps::{CONNECTING, Connecting},
};

/// `enum socket_state` (include/uapi/linux/net.h).
const SS_UNCONNECTED: u32 = 1;

/// match-proto: inet_sock_set_state(const struct sock *, const int, const int)
#[raw_tracepoint]
pub fn raw_tp_connect(ctx: RawTracePointContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        (TCP_CLOSE, TCP_SYN_SENT) => connecting(sk),
        (TCP_SYN_SENT, TCP_CLOSE) => closed(sk),
        _ => {}
    }
    0
}

/// Who opens listeners. A program of its own, so that either can be replaced
/// by a function hook without reporting the other twice.
///
/// match-proto: inet_sock_set_state(const struct sock *, const int, const int)
#[raw_tracepoint]
pub fn raw_tp_listener(ctx: RawTracePointContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    if ctx.arg::<i32>(2) == TCP_LISTEN && sk.protocol() == IPPROTO_TCP {
        listeners::opened(sk);
    }
    0
}

/// Remembers what [`closed`] must compare with; for a fresh socket that is
/// nothing, so the usual `connect()` writes no map.
#[inline(always)]
fn connecting(sk: Sock) {
    let now = Connecting {
        port: sk.port() as u32,
        hash: sk.hash(),
    };
    if now.port != 0 || now.hash != 0 {
        let _ = CONNECTING.insert(sk.0, now, 0);
    } else if CONNECTING.get_ptr(sk.0).is_some() {
        // The memory of an earlier socket.
        let _ = CONNECTING.remove(sk.0);
    }
}

#[inline(always)]
fn closed(sk: Sock) {
    let socket = sk.socket();
    if !socket.exists() || socket.state() != SS_UNCONNECTED || sk.protocol() != IPPROTO_TCP {
        return;
    }
    // SAFETY: values are replaced, never written in place.
    let before = unsafe { CONNECTING.get(sk.0) }
        .copied()
        .unwrap_or(Connecting { port: 0, hash: 0 });
    let _ = CONNECTING.remove(sk.0);
    if sk.hash() != before.hash {
        return;
    }
    let (local, remote) = sk.ends();
    let mut ends = Ends {
        local,
        remote: Some(remote),
    };
    // The port is given back before the tracepoint runs (tcp_set_state).
    ends.local.port = before.port as u16;
    search_failed_with(Hook::RawTpSetState, sk, before.port as u16, ends);
}

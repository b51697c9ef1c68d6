//! Was this final ACK dropped because the accept queue is full?
//!
//! `tcp_v4_syn_recv_sock` / `tcp_v6_syn_recv_sock` test the queue before
//! anything else, so reading it at their entry is reading what they decide on.
//! The IPv6 function hands IPv4 packets to the IPv4 one.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::{Cause, Family, Hook, Kind, flag};

use crate::{
    emit::{Ends, Failure, Queues, packet_dropped},
    kernel::{Skb, Sock},
};

/// The final ACK `skb` for `request` reached `sk`. `family`: the one whose
/// packets this hook is to count.
#[inline(always)]
fn reached(hook: Hook, sk: Sock, skb: u64, request: u64, family: Family) {
    let (accept_len, accept_max) = sk.accept_queue();
    if accept_len <= accept_max {
        return;
    }
    let (from, to) = Skb(skb).addresses();
    if family == Family::V6 && from.family == Family::V4 {
        return;
    }
    let cookie = Sock(request).request_listener() == 0;
    let queues = Queues {
        accept_len,
        accept_max,
        request_len: sk.request_queue_len(),
        max_syn_backlog: 0,
        flags: if cookie { flag::SYNCOOKIE } else { 0 },
    };
    let failure = Failure {
        kind: verdict(sk, cookie),
        cause: Cause::AcceptQueueFull,
        hook,
        sk,
    };
    packet_dropped(
        failure,
        Ends {
            local: to,
            remote: Some(from),
        },
        queues,
    );
}

/// What happens to a final ACK that finds the accept queue of `sk` full.
#[inline(always)]
pub fn verdict(sk: Sock, cookie: bool) -> Kind {
    // A syncookie's ACK is never answered with RST (tcp_get_cookie_sock).
    if !cookie && sk.net().abort_on_overflow() {
        Kind::OverflowReset
    } else {
        Kind::AckDropped
    }
}

/// match-proto: struct sock *tcp_v4_syn_recv_sock(const struct sock *, struct sk_buff *, struct request_sock *, ...)
#[fentry]
pub fn fentry_v4_syn_recv_sock(ctx: FEntryContext) -> i32 {
    let hook = Hook::FentryV4SynRecvSock;
    reached(hook, Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Family::V4);
    0
}

/// match-proto: struct sock *tcp_v6_syn_recv_sock(const struct sock *, struct sk_buff *, struct request_sock *, ...)
#[fentry]
pub fn fentry_v6_syn_recv_sock(ctx: FEntryContext) -> i32 {
    let hook = Hook::FentryV6SynRecvSock;
    reached(hook, Sock(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Family::V6);
    0
}

/// match-proto: struct sock *tcp_v4_syn_recv_sock(const struct sock *, struct sk_buff *, struct request_sock *, ...)
#[kprobe]
pub fn kprobe_v4_syn_recv_sock(ctx: ProbeContext) -> u32 {
    let (sk, skb, request) = arguments(&ctx);
    reached(Hook::KprobeV4SynRecvSock, sk, skb, request, Family::V4);
    0
}

/// match-proto: struct sock *tcp_v6_syn_recv_sock(const struct sock *, struct sk_buff *, struct request_sock *, ...)
#[kprobe]
pub fn kprobe_v6_syn_recv_sock(ctx: ProbeContext) -> u32 {
    let (sk, skb, request) = arguments(&ctx);
    reached(Hook::KprobeV6SynRecvSock, sk, skb, request, Family::V6);
    0
}

#[inline(always)]
fn arguments(ctx: &ProbeContext) -> (Sock, u64, u64) {
    (
        Sock(ctx.arg(0).unwrap_or(0)),
        ctx.arg(1).unwrap_or(0),
        ctx.arg(2).unwrap_or(0),
    )
}

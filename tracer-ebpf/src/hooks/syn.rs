//! Was this SYN dropped, and why?
//!
//! `tcp_conn_request` returns 0 whatever it does. It calls
//! `tcp_openreq_init_rwin` after every test that drops, so a return without
//! that call in between is a drop, on every kernel. The queues are read at
//! entry, where the kernel reads them too: at the return a SYN that was
//! accepted has already grown them.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{Cause, Hook, Kind, request_limit};

use crate::{
    emit::{Ends, Failure, Queues, packet_dropped, unjudged},
    kernel::{Skb, Sock},
    maps::{REQUEST_LIMIT, SYN, Syn},
};

#[inline(always)]
fn entered(sk: Sock, skb: u64) {
    let Some(slot) = SYN.get_ptr_mut(0) else {
        return;
    };
    let (accept_len, accept_max) = sk.accept_queue();
    let syn = Syn {
        sk: sk.0,
        skb,
        accept_len,
        accept_max,
        request_len: sk.request_queue_len(),
        accepted: 0,
    };
    // SAFETY: this CPU's own slot; softirqs do not nest.
    unsafe { slot.write(syn) };
}

#[inline(always)]
fn accepted(sk: Sock) {
    let Some(slot) = SYN.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: as in `entered`.
    let syn = unsafe { &mut *slot };
    if syn.sk == sk.0 {
        syn.accepted = 1;
    }
}

/// `known`: the listener, where the hook still sees its arguments.
#[inline(always)]
fn returned(hook: Hook, known: Option<Sock>) {
    let Some(slot) = SYN.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: as in `entered`.
    let syn = unsafe { *slot };
    // SAFETY: as in `entered`.
    unsafe { (*slot).sk = 0 };
    if syn.sk == 0 || known.is_some_and(|sk| sk.0 != syn.sk) {
        unjudged();
        return;
    }
    if syn.accepted == 1 {
        learn_limit(&syn);
        return;
    }
    dropped(hook, &syn);
}

#[inline(always)]
fn dropped(hook: Hook, syn: &Syn) {
    let sk = Sock(syn.sk);
    let net = sk.net();
    let mut queues = Queues {
        accept_len: syn.accept_len,
        accept_max: syn.accept_max,
        request_len: syn.request_len,
        ..Queues::default()
    };
    let cause = if net.syncookies() == 0 {
        queues.max_syn_backlog = net.max_syn_backlog();
        cause_without_cookies(&queues).unwrap_or_else(|| {
            // It was dropped, so this kernel drops at the limit.
            learn(request_limit::DROPS);
            Cause::RequestQueueFull
        })
    } else {
        cause_of_accept_queue(syn)
    };
    let (from, to) = Skb(syn.skb).addresses();
    let failure = Failure {
        kind: Kind::SynDropped,
        cause,
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

#[inline(always)]
fn cause_of_accept_queue(syn: &Syn) -> Cause {
    if syn.accept_len > syn.accept_max {
        Cause::AcceptQueueFull
    } else {
        Cause::Other
    }
}

/// The kernel's own order of tests (tcp_conn_request, net/ipv4/tcp_input.c). `None`: it
/// depends on what this kernel does at the limit, which is not known yet.
#[inline(always)]
pub fn cause_without_cookies(queues: &Queues) -> Option<Cause> {
    let limit = queues.accept_max;
    let is_at_limit = queues.request_len == limit;
    if queues.request_len > limit {
        // That is no evidence of the rule: listen() may have lowered the limit.
        Some(Cause::RequestQueueFull)
    } else if is_at_limit && rule() == request_limit::DROPS {
        Some(Cause::RequestQueueFull)
    } else if queues.accept_len > limit {
        Some(Cause::AcceptQueueFull)
    } else if last_quarter(queues.request_len, queues.max_syn_backlog) {
        Some(Cause::BacklogReserve)
    } else if is_at_limit && rule() == request_limit::UNKNOWN {
        None
    } else {
        Some(Cause::Other)
    }
}

/// Without syncookies the last quarter of `tcp_max_syn_backlog` is kept for
/// peers with proven metrics.
#[inline(always)]
fn last_quarter(request_len: u32, max_syn_backlog: u32) -> bool {
    (max_syn_backlog.wrapping_sub(request_len) as i32) < (max_syn_backlog as i32 >> 2)
}

/// See [`REQUEST_LIMIT`].
#[inline(always)]
fn rule() -> u32 {
    REQUEST_LIMIT
        .get(0)
        .copied()
        .unwrap_or(request_limit::UNKNOWN)
}

#[inline(always)]
fn learn(what: u32) {
    if rule() == what {
        return;
    }
    if let Some(rule) = REQUEST_LIMIT.get_ptr_mut(0) {
        // SAFETY: a valid map value, written as a whole.
        unsafe { rule.write(what) };
    }
}

/// A SYN that was accepted with the queue at exactly its limit shows how this
/// kernel compares. Rare: the queue must stand at the limit.
#[inline(always)]
fn learn_limit(syn: &Syn) {
    if syn.request_len == syn.accept_max && Sock(syn.sk).net().syncookies() == 0 {
        learn(request_limit::ACCEPTS);
    }
}

/// match-proto: int tcp_conn_request(struct request_sock_ops *, const struct tcp_request_sock_ops *, struct sock *, struct sk_buff *)
#[fentry]
pub fn fentry_conn_request(ctx: FEntryContext) -> i32 {
    entered(Sock(ctx.arg(2)), ctx.arg(3));
    0
}

/// match-proto: void tcp_openreq_init_rwin(struct request_sock *, const struct sock *, const struct dst_entry *)
#[fentry]
pub fn fentry_openreq_init(ctx: FEntryContext) -> i32 {
    accepted(Sock(ctx.arg(1)));
    0
}

/// match-proto: int tcp_conn_request(struct request_sock_ops *, const struct tcp_request_sock_ops *, struct sock *, struct sk_buff *)
#[fexit]
pub fn fexit_conn_request(ctx: FExitContext) -> i32 {
    returned(Hook::FexitConnRequest, Some(Sock(ctx.arg(2))));
    0
}

/// match-proto: int tcp_conn_request(struct request_sock_ops *, const struct tcp_request_sock_ops *, struct sock *, struct sk_buff *)
#[kprobe]
pub fn kprobe_conn_request(ctx: ProbeContext) -> u32 {
    entered(Sock(ctx.arg(2).unwrap_or(0)), ctx.arg(3).unwrap_or(0));
    0
}

/// match-proto: void tcp_openreq_init_rwin(struct request_sock *, const struct sock *, const struct dst_entry *)
#[kprobe]
pub fn kprobe_openreq_init(ctx: ProbeContext) -> u32 {
    accepted(Sock(ctx.arg(1).unwrap_or(0)));
    0
}

/// match-proto: int tcp_conn_request(struct request_sock_ops *, const struct tcp_request_sock_ops *, struct sock *, struct sk_buff *)
#[kretprobe]
pub fn kretprobe_conn_request(_ctx: RetProbeContext) -> u32 {
    returned(Hook::KretConnRequest, None);
    0
}

//! The portable tier's view of listen queues: `cgroup_skb/ingress` at the root
//! of the cgroup2 tree runs for a SYN or final ACK with `skb->sk` set to the
//! listener, just before the kernel tests the queues. It applies the same
//! tests. Not seen from here, hence near-exact: whether a peer has proven
//! metrics, and whether an ACK without a request carries a valid syncookie.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    cty::c_void,
    helpers::generated::{
        bpf_sk_fullsock, bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_request_sock,
        bpf_skc_to_tcp_sock,
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use tracer_common::{Cause, Family, Hook, Kind, flag};

use super::{TCP_LISTEN, TCP_NEW_SYN_RECV, final_ack, syn};
use crate::{
    emit::{Ends, Failure, Queues, packet_dropped, undecided},
    kernel::{Address, Sock},
    maps::SEGMENT,
    packet::{ACK, FIN, RST, SYN, Segment, flags, parse},
};

/// `BPF_F_CURRENT_NETNS`: the namespace of the packet's device.
const CURRENT_NETNS: u64 = -1i64 as u64;
const PASS: i32 = 1;

/// SYNs.
#[cgroup_skb]
pub fn cgroup_syn(ctx: SkBuffContext) -> i32 {
    if let Some(sk) = listener(&ctx)
        && has_flags(&ctx, SYN | ACK | RST | FIN, SYN)
    {
        arrived(&ctx, sk, |arrival, queues| {
            syn_arrived(&ctx, arrival, queues)
        });
    }
    PASS
}

/// Final ACKs. A program of its own, so that either can be replaced by a
/// function hook without counting the other twice.
#[cgroup_skb]
pub fn cgroup_ack(ctx: SkBuffContext) -> i32 {
    if let Some(sk) = listener(&ctx)
        && has_flags(&ctx, SYN | ACK | RST, ACK)
    {
        arrived(&ctx, sk, |arrival, queues| {
            ack_arrived(&ctx, arrival, queues)
        });
    }
    PASS
}

/// The listener this packet is for, found in the first instructions: they run
/// for every packet that enters.
#[inline(always)]
fn listener(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: `sk` of the context is a socket or null.
    let sk: *mut bpf_sock = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    // SAFETY: checked for null first; `state` may be read of any socket.
    if sk.is_null() || unsafe { (*sk).state } != TCP_LISTEN as u32 {
        return None;
    }
    Some(sk)
}

/// Whether, of `mask`, the segment has exactly these flags. Asked first, because each
/// program is for half of what a listener gets.
#[inline(always)]
fn has_flags(ctx: &SkBuffContext, mask: u8, expected: u8) -> bool {
    flags(ctx).is_some_and(|flags| flags & mask == expected)
}

#[inline(always)]
fn arrived(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    decide: impl FnOnce(&Arrival, &mut Queues) -> Option<(Kind, Cause)>,
) {
    // SAFETY: `sk` is not null.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return;
    }
    // SAFETY: `full` is a full socket; the result is only an address here.
    let sk = Sock(unsafe { bpf_skc_to_tcp_sock(full.cast()) } as u64);
    if sk.0 == 0 {
        return;
    }
    let (accept_len, accept_max) = sk.accept_queue();
    // With room in its queue, a listener drops nothing but what it cannot remember
    // without syncookies.
    if accept_len <= accept_max && sk.net().syncookies() != 0 {
        return;
    }
    let Some(slot) = SEGMENT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot; softirqs do not nest.
    let segment = unsafe { &mut *slot };
    if parse(ctx, segment).is_none() {
        return;
    }
    let mut queues = Queues {
        accept_len,
        accept_max,
        request_len: sk.request_queue_len(),
        ..Queues::default()
    };
    let arrival = Arrival { sk, segment };
    if let Some((kind, cause)) = decide(&arrival, &mut queues) {
        let ends = Ends {
            local: segment.to,
            remote: Some(segment.from),
        };
        let failure = Failure {
            kind,
            cause,
            hook: Hook::CgroupSkbIngress,
            sk,
        };
        packet_dropped(failure, ends, queues);
    }
}

/// A segment and the listener it reached.
struct Arrival<'a> {
    sk: Sock,
    segment: &'a Segment,
}

#[inline(always)]
fn syn_arrived(
    ctx: &SkBuffContext,
    arrival: &Arrival<'_>,
    queues: &mut Queues,
) -> Option<(Kind, Cause)> {
    let Arrival { sk, segment } = *arrival;
    let net = sk.net();
    let cause = if net.syncookies() == 0 {
        queues.max_syn_backlog = net.max_syn_backlog();
        syn::cause_without_cookies(queues)
    } else if queues.accept_len > queues.accept_max {
        Some(Cause::AcceptQueueFull)
    } else {
        return None;
    };
    // `Other` is no drop here: nothing says that this SYN will be dropped. A
    // SYN repeated for a known request is answered, not queued.
    if cause == Some(Cause::Other) || request(ctx, segment).is_some() {
        return None;
    }
    let Some(cause) = cause else {
        undecided(sk);
        return None;
    };
    Some((Kind::SynDropped, cause))
}

#[inline(always)]
fn ack_arrived(
    ctx: &SkBuffContext,
    arrival: &Arrival<'_>,
    queues: &mut Queues,
) -> Option<(Kind, Cause)> {
    let Arrival { sk, segment } = *arrival;
    if queues.accept_len <= queues.accept_max {
        return None;
    }
    let cookie = match request(ctx, segment) {
        Some(request) if request.would_drop(segment, sk.defer_accept()) => false,
        Some(_) => return None,
        None => match sk.net().syncookies() {
            0 => return None,
            2 => true,
            _ if sk.sent_syncookies() => true,
            _ => return None,
        },
    };
    if cookie {
        queues.flags |= flag::SYNCOOKIE;
    }
    Some((final_ack::verdict(sk, cookie), Cause::AcceptQueueFull))
}

/// What the kernel's verdict on a segment depends on.
#[derive(Clone, Copy)]
struct Request {
    snt_isn: u32,
    rcv_isn: u32,
    rcv_nxt: u32,
    rcv_wnd: u32,
    timeouts: u8,
}

impl Request {
    /// Whether a segment with ACK, and without SYN and RST, gets as far as the accept
    /// queue; in the order of tcp_check_req (net/ipv4/tcp_minisocks.c). Not looked at:
    /// timestamps that go back (PAWS).
    #[inline(always)]
    fn would_drop(&self, segment: &Segment, defer_accept: u8) -> bool {
        let begin = segment.seq.wrapping_sub(self.rcv_nxt) as i32;
        let end = segment.end_seq.wrapping_sub(self.rcv_nxt) as i32;
        let room = self.rcv_wnd as i32;
        let is_in_window =
            begin == 0 || (end > 0 && begin < room) || (begin == room && begin == end);
        let is_deferred =
            self.timeouts < defer_accept && segment.end_seq == self.rcv_isn.wrapping_add(1);
        segment.ack == self.snt_isn.wrapping_add(1) && is_in_window && !is_deferred
    }
}

/// The request that this segment belongs to.
#[inline(always)]
fn request(ctx: &SkBuffContext, segment: &Segment) -> Option<Request> {
    let mut tuple = tuple(segment.from, segment.to);
    let size = if segment.from.family == Family::V4 {
        12
    } else {
        36
    };
    // SAFETY: the tuple is initialised and `size` is one of the two sizes the
    // helper knows.
    let found = unsafe {
        bpf_skc_lookup_tcp(
            EbpfContext::as_ptr(ctx),
            &raw mut tuple,
            size,
            CURRENT_NETNS,
            0,
        )
    };
    if found.is_null() {
        return None;
    }
    // SAFETY: not null; `state` may be read of any socket.
    let request = if unsafe { (*found).state } == TCP_NEW_SYN_RECV {
        // SAFETY: not null; the result is only an address here.
        let request = unsafe { bpf_skc_to_tcp_request_sock(found.cast::<c_void>()) } as u64;
        let request = Sock(request);
        (request.0 != 0).then(|| Request {
            snt_isn: request.request_isn(),
            rcv_isn: request.request_rcv_isn(),
            rcv_nxt: request.request_rcv_nxt(),
            rcv_wnd: request.request_rcv_wnd(),
            timeouts: request.request_timeouts(),
        })
    } else {
        None
    };
    // SAFETY: the reference that the look-up took, released once.
    unsafe { bpf_sk_release(found.cast()) };
    request
}

#[inline(always)]
fn tuple(from: Address, to: Address) -> bpf_sock_tuple {
    let (sport, dport) = (from.port.to_be(), to.port.to_be());
    let inner = if from.family == Family::V4 {
        let word = |ip: [u8; 16]| u32::from_ne_bytes([ip[0], ip[1], ip[2], ip[3]]);
        bpf_sock_tuple__bindgen_ty_1 {
            ipv4: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: word(from.ip),
                daddr: word(to.ip),
                sport,
                dport,
            },
        }
    } else {
        bpf_sock_tuple__bindgen_ty_1 {
            ipv6: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                saddr: words(from.ip),
                daddr: words(to.ip),
                sport,
                dport,
            },
        }
    };
    bpf_sock_tuple {
        __bindgen_anon_1: inner,
    }
}

#[inline(always)]
fn words(ip: [u8; 16]) -> [u32; 4] {
    [
        u32::from_ne_bytes([ip[0], ip[1], ip[2], ip[3]]),
        u32::from_ne_bytes([ip[4], ip[5], ip[6], ip[7]]),
        u32::from_ne_bytes([ip[8], ip[9], ip[10], ip[11]]),
        u32::from_ne_bytes([ip[12], ip[13], ip[14], ip[15]]),
    ]
}

//! Final ACKs that find the accept queue full: dropped in silence, or answered with
//! a reset.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::queue::{CLIENTS, TOO_MANY, Wire};
use crate::case::{Case, Scenario, scenario};
use crate::counters::Counters;
use crate::expect::Expected;
use crate::packet::{ACK, FIN, Segment};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
const DROP: &[&str] = &["ack_drop"];
const RESET: &[&str] = &["overflow_reset"];

pub(crate) const ALL: &[Scenario] = &[
    scenario("ack/cookies-0-abort-0", DROP, |case| {
        run(case, &plan(V4, 0, false))
    }),
    scenario("ack/cookies-0-abort-1", RESET, |case| {
        run(case, &plan(V4, 0, true))
    }),
    scenario("ack/cookies-1-abort-0", DROP, |case| {
        run(case, &plan(V4, 1, false))
    }),
    scenario("ack/cookies-1-abort-1", DROP, |case| {
        run(case, &plan(V4, 1, true))
    }),
    scenario("ack/cookies-2-abort-0", DROP, |case| {
        run(case, &plan(V4, 2, false))
    }),
    scenario("ack/cookies-2-abort-1", DROP, |case| {
        run(case, &plan(V4, 2, true))
    }),
    scenario("ack/v6-cookies-0-abort-0", DROP, |case| {
        run(case, &plan(V6, 0, false))
    }),
    scenario("ack/v6-cookies-0-abort-1", RESET, |case| {
        run(case, &plan(V6, 0, true))
    }),
    scenario("ack/v6-cookies-2-abort-0", DROP, |case| {
        run(case, &plan(V6, 2, false))
    }),
    scenario("ack/v6-listener-v4-peer", DROP, |case| {
        run(case, &dual_stack(0))
    }),
    scenario("ack/v6-listener-v4-peer-cookies-2", DROP, |case| {
        run(case, &dual_stack(2))
    }),
    scenario("ack/not-for-the-request", DROP, |case| {
        not_for_the_request(case, V4)
    }),
    scenario("ack/v6-not-for-the-request", DROP, |case| {
        not_for_the_request(case, V6)
    }),
    scenario("ack/deferred", DROP, |case| deferred(case, V4)),
    scenario("ack/v6-deferred", DROP, |case| deferred(case, V6)),
    scenario("ack/reuseport-cookies-1", DROP, |case| reuseport(case, 1)),
    scenario("ack/reuseport-cookies-2", DROP, |case| reuseport(case, 2)),
    scenario("ack/repeated", DROP, |case| run(case, &repeated())),
];

/// How the handshakes go.
pub(crate) struct Plan {
    own: IpAddr,
    cookies: u8,
    abort: bool,
    /// An IPv6 listener whatever `own` is.
    dual_stack: bool,
    /// How often each peer sends its final ACK.
    acks: usize,
}

pub(crate) fn plan(own: IpAddr, cookies: u8, abort: bool) -> Plan {
    Plan {
        own,
        cookies,
        abort,
        dual_stack: false,
        acks: 1,
    }
}

/// The kernel's IPv6 function calls its IPv4 one here: one drop, not two.
fn dual_stack(cookies: u8) -> Plan {
    Plan {
        dual_stack: true,
        ..plan(V4, cookies, false)
    }
}

/// A peer that gets no data repeats itself: each segment counts.
fn repeated() -> Plan {
    Plan {
        acks: 3,
        ..plan(V4, 0, false)
    }
}

impl Plan {
    fn wire(&self, case: &mut Case) -> Result<Wire> {
        // Without cookies eight requests need a backlog of eight at least; listen() again
        // with a smaller one only changes the limit.
        let backlog = if self.cookies == 0 { 64 } else { 2 };
        let wire = if self.dual_stack {
            Wire::with(
                case,
                self.own,
                self.cookies,
                &format!("tcp6 [::]:8080 {backlog}"),
            )?
        } else {
            Wire::new(case, self.own, self.cookies, backlog)?
        };
        let abort = if self.abort { "1" } else { "0" };
        wire.space.sysctl("net/ipv4/tcp_abort_on_overflow", abort)?;
        Ok(wire)
    }

    /// How many final ACKs are answered with a reset: SYN cookies remember nothing that
    /// could be reset.
    fn resets(&self) -> usize {
        if self.abort && self.cookies == 0 {
            TOO_MANY
        } else {
            0
        }
    }
}

/// Eight handshakes with a listener whose accept queue holds three: every SYN is
/// answered first, then the final ACKs come, and five find the queue full.
pub(crate) fn run(case: &mut Case, plan: &Plan) -> Result<()> {
    let wire = plan.wire(case)?;
    case.watch(&wire.space)?;
    let mut acks = Vec::new();
    for peer in wire.peers(0..CLIENTS)? {
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
        acks.push(wire.tun.await_syn_ack(&peer)?.final_ack());
    }
    wire.server.ok(&format!("listen {} 2", wire.listener))?;
    for ack in &acks {
        for _ in 0..plan.acks {
            wire.tun.send(ack)?;
        }
    }
    let unlucky = wire.peers(CLIENTS - TOO_MANY..CLIENTS)?;
    judge_oracles(&wire, plan, &unlucky)?;
    let kind = if plan.resets() > 0 {
        "overflow_reset"
    } else {
        "ack_dropped"
    };
    let mut expected = Expected::drop(wire.space.inum, kind, "accept_queue_full")
        .times((TOO_MANY * plan.acks) as u64)
        .by(&wire.server)
        .remote(&unlucky)
        .accept_queue(3, 2);
    expected = if plan.dual_stack {
        expected.local(&["10.77.0.1:8080", "0.0.0.0:8080"])
    } else {
        expected.local(&[&wire.addr.to_string()])
    };
    if plan.own.is_ipv6() {
        expected = expected.v6();
    }
    case.expect(expected)
}

/// Handshakes of as many peers, up to the answer to their SYN.
fn answered(wire: &Wire, count: usize) -> Result<Vec<Segment>> {
    let mut acks = Vec::new();
    for peer in wire.peers(0..count)? {
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
        acks.push(wire.tun.await_syn_ack(&peer)?.final_ack());
    }
    Ok(acks)
}

fn dropped(wire: &Wire, own: IpAddr, unlucky: &[SocketAddr], times: u64) -> Expected {
    let expected = Expected::drop(wire.space.inum, "ack_dropped", "accept_queue_full")
        .times(times)
        .by(&wire.server)
        .remote(unlucky)
        .local(&[&wire.addr.to_string()]);
    match own.is_ipv6() {
        true => expected.v6(),
        false => expected,
    }
}

/// The accept queue is full, and segments come that the kernel ignores before it looks at
/// the queue: a keep-alive with an old sequence number, one beyond the window, a wrong
/// ACK number. Only what follows them is dropped for the queue.
fn not_for_the_request(case: &mut Case, own: IpAddr) -> Result<()> {
    let wire = plan(own, 0, false).wire(case)?;
    case.watch(&wire.space)?;
    let acks = answered(&wire, CLIENTS)?;
    wire.server.ok(&format!("listen {} 2", wire.listener))?;
    let (lucky, unlucky) = acks.split_at(CLIENTS - TOO_MANY);
    for ack in lucky {
        wire.tun.send(ack)?;
    }
    for ack in unlucky {
        let sequence = |seq: u32| Segment { seq, ..ack.clone() };
        wire.tun.send(&sequence(ack.seq.wrapping_sub(1)))?;
        wire.tun.send(&sequence(ack.seq.wrapping_add(10_000_000)))?;
        wire.tun.send(&Segment {
            ack: ack.ack.wrapping_add(1),
            ..ack.clone()
        })?;
        wire.tun.send(ack)?;
    }
    let drops = TOO_MANY as u64;
    let now = Counters::await_in(&wire.space, "the overflows", |now| {
        now.listen_overflows >= drops
    })?;
    ensure!(
        now.listen_overflows == drops && now.listen_drops == drops,
        "expected {drops} overflows and drops: {now:?}"
    );
    let peers = wire.peers(CLIENTS - TOO_MANY..CLIENTS)?;
    case.expect(dropped(&wire, own, &peers, drops).accept_queue(3, 2))
}

/// TCP_DEFER_ACCEPT: a bare ACK is ignored while data is waited for, but a FIN is not.
fn deferred(case: &mut Case, own: IpAddr) -> Result<()> {
    let wire = plan(own, 0, false).wire(case)?;
    case.watch(&wire.space)?;
    let acks = answered(&wire, CLIENTS)?;
    let (lucky, unlucky) = acks.split_at(CLIENTS - TOO_MANY);
    wire.server.ok(&format!("listen {} 2", wire.listener))?;
    for ack in lucky {
        wire.tun.send(ack)?;
    }
    Counters::await_in(&wire.space, "the full queue", |_| {
        crate::counters::queued(&wire.space, 8080).is_ok_and(|queued| queued == lucky.len() as u64)
    })?;
    let order = format!("defer-accept {}", wire.listener);
    wire.server.ok(&order)?;
    for ack in unlucky {
        wire.tun.send(ack)?;
        wire.tun.send(&Segment {
            flags: ACK | FIN,
            ..ack.clone()
        })?;
    }
    let drops = TOO_MANY as u64;
    let now = Counters::await_in(&wire.space, "the overflows", |now| {
        now.listen_overflows >= drops
    })?;
    ensure!(
        now.listen_overflows == drops && now.listen_drops == drops,
        "expected {drops} overflows and drops: {now:?}"
    );
    let peers = wire.peers(CLIENTS - TOO_MANY..CLIENTS)?;
    case.expect(dropped(&wire, own, &peers, drops).accept_queue(3, 2))
}

/// A listener with SO_REUSEPORT: the kernel notes in its group that it has sent cookies.
fn reuseport(case: &mut Case, cookies: u8) -> Result<()> {
    let order = "group-listener tcp4 10.77.0.1:8080 2";
    let wire = Wire::ordered(case, V4, cookies, order)?;
    case.watch(&wire.space)?;
    let acks = answered(&wire, CLIENTS)?;
    for ack in &acks {
        wire.tun.send(ack)?;
    }
    let drops = TOO_MANY as u64;
    let now = Counters::await_in(&wire.space, "the overflows", |now| {
        now.listen_overflows >= drops
    })?;
    ensure!(
        now.listen_overflows == drops && now.listen_drops == drops && now.cookies_sent > 0,
        "expected {drops} overflows and drops, and cookies: {now:?}"
    );
    let peers = wire.peers(CLIENTS - TOO_MANY..CLIENTS)?;
    case.expect(dropped(&wire, V4, &peers, drops).accept_queue(3, 2))
}

/// What the kernel counted and whom it sent a reset.
fn judge_oracles(wire: &Wire, plan: &Plan, unlucky: &[SocketAddr]) -> Result<()> {
    let drops = (TOO_MANY * plan.acks) as u64;
    let now = Counters::await_in(&wire.space, "the overflows", |now| {
        now.listen_overflows >= drops
    })?;
    let reset = wire.tun.drain(Segment::is_reset)?;
    let wanted: BTreeSet<_> = unlucky.iter().copied().take(plan.resets()).collect();
    ensure!(
        reset == wanted,
        "resets went to {reset:?}, expected {wanted:?}"
    );
    ensure!(
        now.embryonic_resets == plan.resets() as u64,
        "expected {} requests ended by a reset: {now:?}",
        plan.resets()
    );
    ensure!(
        now.listen_overflows == drops && now.listen_drops == drops,
        "expected {drops} overflows and drops: {now:?}"
    );
    ensure!(
        (now.cookies_sent > 0) == (plan.cookies > 0),
        "SYN cookies: tcp_syncookies={}, but {now:?}",
        plan.cookies
    );
    Ok(())
}

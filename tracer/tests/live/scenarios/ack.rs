//! Final ACKs that find the accept queue full: dropped in silence, or answered with
//! a reset.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::queue::{CLIENTS, TOO_MANY, Wire};
use crate::case::{Case, Scenario, scenario};
use crate::counters::Counters;
use crate::expect::Expected;
use crate::packet::Segment;

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

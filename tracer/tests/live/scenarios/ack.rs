//! Final ACKs that find the accept queue full: dropped in silence, or answered with
//! a reset.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

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
        run(case, V4, 0, false)
    }),
    scenario("ack/cookies-0-abort-1", RESET, |case| {
        run(case, V4, 0, true)
    }),
    scenario("ack/cookies-1-abort-0", DROP, |case| {
        run(case, V4, 1, false)
    }),
    scenario("ack/cookies-1-abort-1", DROP, |case| run(case, V4, 1, true)),
    scenario("ack/cookies-2-abort-0", DROP, |case| {
        run(case, V4, 2, false)
    }),
    scenario("ack/cookies-2-abort-1", DROP, |case| run(case, V4, 2, true)),
    scenario("ack/v6-cookies-0-abort-0", DROP, |case| {
        run(case, V6, 0, false)
    }),
    scenario("ack/v6-cookies-0-abort-1", RESET, |case| {
        run(case, V6, 0, true)
    }),
    scenario("ack/v6-cookies-2-abort-0", DROP, |case| {
        run(case, V6, 2, false)
    }),
];

/// Eight handshakes with a listener whose accept queue holds three: every SYN is
/// answered first, then the final ACKs come, and five find the queue full.
fn run(case: &mut Case, own: IpAddr, cookies: u8, abort: bool) -> Result<()> {
    // Without cookies eight requests need a backlog of eight at least; listen() again
    // with a smaller one only changes the limit.
    let wire = Wire::new(case, own, cookies, if cookies == 0 { 64 } else { 2 })?;
    let space = &wire.space;
    space.sysctl(
        "net/ipv4/tcp_abort_on_overflow",
        if abort { "1" } else { "0" },
    )?;
    let mut acks = Vec::new();
    for peer in wire.peers(0..CLIENTS)? {
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
        acks.push(wire.tun.await_syn_ack(&peer)?.final_ack());
    }
    wire.server.ok(&format!("listen {} 2", wire.listener))?;
    for ack in &acks {
        wire.tun.send(ack)?;
    }
    let now = Counters::await_in(space, "five overflows", |now| {
        now.listen_overflows >= TOO_MANY as u64
    })?;
    // SYN cookies remember nothing that could be reset.
    let resets = if abort && cookies == 0 { TOO_MANY } else { 0 };
    let reset = wire.tun.drain(Segment::is_reset)?;
    let unlucky = wire.peers(CLIENTS - TOO_MANY..CLIENTS)?;
    let wanted: BTreeSet<_> = unlucky.iter().copied().take(resets).collect();
    ensure!(
        reset == wanted,
        "resets went to {reset:?}, expected {wanted:?}"
    );
    ensure!(
        now.listen_overflows == TOO_MANY as u64 && now.listen_drops == TOO_MANY as u64,
        "expected five overflows and five drops: {now:?}"
    );
    ensure!(
        (now.cookies_sent > 0) == (cookies > 0),
        "SYN cookies: tcp_syncookies={cookies}, but {now:?}"
    );
    let kind = if resets > 0 {
        "overflow_reset"
    } else {
        "ack_dropped"
    };
    let mut expected = Expected::drop(space.inum, kind, "accept_queue_full")
        .times(TOO_MANY as u64)
        .by(&wire.server)
        .local(&[&wire.addr.to_string()])
        .remote(&unlucky)
        .accept_queue(3, 2);
    if own.is_ipv6() {
        expected = expected.v6();
    }
    case.expect(expected)
}

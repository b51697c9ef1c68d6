//! What looks like a failure and is none of ours: tracer must say nothing, and its
//! totals must not move.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::queue::Wire;
use crate::case::{Case, Scenario, Skip, scenario};
use crate::counters::Counters;
use crate::packet::Segment;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));

pub(crate) const ALL: &[Scenario] = &[
    scenario(
        "nothing/other-errors",
        &["connect", "bind", "listen"],
        other_errors,
    ),
    scenario("nothing/refused-by-verifier", &[], refused_by_verifier),
    scenario("nothing/repeated-syn", &["syn_drop"], repeated_syn),
    scenario("nothing/no-backlog", &["syn_drop"], no_backlog),
    scenario("nothing/defer-accept", &["ack_drop"], defer_accept),
    scenario(
        "nothing/queue-just-full",
        &["syn_drop", "ack_drop"],
        just_full,
    ),
];

/// Calls that fail for other reasons, and calls that succeed.
fn other_errors(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let role = case.role(&space, "unlucky")?;
    for (kind, order, errno) in [
        ("tcp4", "connect FD 127.0.0.1:9", libc::ECONNREFUSED),
        ("tcp6", "connect FD [::1]:9", libc::ECONNREFUSED),
        ("tcp4", "connect FD 192.0.2.1:9", libc::ENETUNREACH),
        ("tcp4", "bind FD 127.0.0.1:8080", 0),
        ("tcp4", "bind FD [::1]:8080", libc::EAFNOSUPPORT),
        ("udp4", "listen FD 8", libc::EOPNOTSUPP),
        ("udp4", "connect FD 127.0.0.1:9", 0),
    ] {
        let fd = role.ok(&format!("socket {kind}"))?;
        role.fails(&order.replace("FD", &fd.to_string()), errno)?;
    }
    Ok(())
}

/// A kernel may lack a hook. That its verifier turns one of our programs down
/// is our mistake, which falling back to another hook would hide; only then is
/// there a sentence of its in brackets.
fn refused_by_verifier(case: &mut Case) -> Result<()> {
    let Some(tracer) = &case.tracer else {
        return Ok(());
    };
    for hook in tracer.startup["hooks"].as_array().into_iter().flatten() {
        let reason = hook["reason"].as_str().unwrap_or_default();
        ensure!(!reason.contains(" ("), "{}: {reason}", hook["purpose"]);
    }
    Ok(())
}

/// The same SYN twice: the second one finds its request and is no drop.
fn repeated_syn(case: &mut Case) -> Result<()> {
    let wire = Wire::new(case, OWN, 1, 64)?;
    let peer = wire.peer(0)?;
    for _ in 0..3 {
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
    }
    wire.tun.await_syn_ack(&peer)?;
    unmoved(&wire)
}

/// A listener that waits for data ignores the final ACK on purpose.
fn defer_accept(case: &mut Case) -> Result<()> {
    let wire = Wire::new(case, OWN, 0, 64)?;
    wire.server.ok(&format!("defer-accept {}", wire.listener))?;
    let peer = wire.peer(0)?;
    wire.tun.send(&Segment::syn(peer, wire.addr))?;
    let ack = wire.tun.await_syn_ack(&peer)?.final_ack();
    wire.tun.send(&ack)?;
    wire.tun.send(&ack)?;
    unmoved(&wire)
}

/// A queue of backlog 2 holds three; the third is no overflow.
fn just_full(case: &mut Case) -> Result<()> {
    let wire = Wire::new(case, OWN, 0, 2)?;
    for peer in wire.peers(0..3)? {
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
        let ack = wire.tun.await_syn_ack(&peer)?.final_ack();
        wire.tun.send(&ack)?;
    }
    for _ in 0..3 {
        wire.server.ok(&format!("accept {}", wire.listener))?;
    }
    unmoved(&wire)
}

fn unmoved(wire: &Wire) -> Result<()> {
    let now = Counters::read(&wire.space)?;
    ensure!(
        now.listen_drops == 0 && now.listen_overflows == 0,
        "nothing was dropped, but {now:?}"
    );
    Ok(())
}

/// `listen(fd, 0)` with syncookies off: the request queue stands at its limit from the
/// start, and the newer kernels accept such a SYN all the same.
fn no_backlog(case: &mut Case) -> Result<()> {
    const CONNECTIONS: usize = 6;
    let space = case.space()?;
    space.sysctl("net/ipv4/tcp_syncookies", "0")?;
    let server = case.role(&space, "server")?;
    let listener = server.ok("listener tcp4 127.0.0.1:8080 0")?;
    let client = case.role(&space, "innocent")?;
    case.watch(&space)?;
    let mut accepted = 0;
    for _ in 0..CONNECTIONS {
        client.connects("tcp4", 1, "127.0.0.1:8080")?;
        // Where it was dropped there is nobody to accept.
        accepted += usize::from(server.ok(&format!("wait {listener}"))? == 1);
        if accepted == 0 {
            return Err(Skip::because("this kernel drops SYNs at the limit"));
        }
        server.ok(&format!("accept {listener}"))?;
    }
    let now = Counters::read(&space)?;
    ensure!(
        accepted == CONNECTIONS && now.listen_drops == 0,
        "{accepted} of {CONNECTIONS} accepted, and {now:?}"
    );
    Ok(())
}

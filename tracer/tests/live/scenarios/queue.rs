//! SYNs that a listener drops.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::case::{Case, Scenario, Skip, scenario};
use crate::counters::{Counters, queued};
use crate::expect::Expected;
use crate::limits;
use crate::netns::Namespace;
use crate::packet::Segment;
use crate::role::Role;
use crate::tun::{self, Tun};

pub(crate) const ALL: &[Scenario] = &[
    scenario("queue/client-in-same-process", &["syn_drop"], same_process),
    scenario(
        "queue/client-in-other-process",
        &["syn_drop"],
        other_process,
    ),
    scenario("queue/client-in-other-netns", &["syn_drop"], other_netns),
    scenario("queue/v6", &["syn_drop"], v6),
    scenario("queue/v6-listener-v4-client", &["syn_drop"], dual_stack),
    scenario("queue/mptcp-listener", &["syn_drop"], mptcp_listener),
    scenario(
        "queue/request-queue-full",
        &["syn_drop"],
        request_queue_full,
    ),
    scenario("queue/backlog-reserve", &["syn_drop"], backlog_reserve),
    scenario("queue/no-route-back", &["syn_drop"], no_route_back),
    scenario("queue/flood", &["syn_drop"], flood),
];

/// How many clients come to a listener with room for three.
pub(crate) const CLIENTS: usize = 8;
/// How many of them find no room.
pub(crate) const TOO_MANY: usize = 5;

/// Non-blocking connects, each of which is in the queue or dropped before the next one
/// comes: under load the kernel puts segments off, and SYNs that pile up would all be
/// answered before the first handshake ends.
pub(crate) fn one_by_one(
    space: &Namespace,
    client: &Role,
    kind: &str,
    count: usize,
    addr: &str,
) -> Result<Vec<String>> {
    let port = addr.parse::<SocketAddr>()?.port();
    let settled =
        || Ok::<_, anyhow::Error>(queued(space, port)? + Counters::read(space)?.listen_overflows);
    let before = settled()?;
    let mut begun = Vec::new();
    for nth in 1..=count {
        let connects = client.connects(kind, 1, addr)?;
        ensure!(connects.failed.is_empty(), "a connect failed: {connects:?}");
        begun.extend(connects.begun);
        limits::until(
            "the SYN's arrival",
            || Ok(settled()? >= before + nth as u64),
        )?;
    }
    Ok(begun)
}

/// Eight clients for a listener with backlog 2: the addresses of those whose SYN is
/// dropped. (A queue with a backlog of n holds n + 1.)
pub(crate) fn overrun(
    space: &Namespace,
    client: &Role,
    kind: &str,
    addr: &str,
) -> Result<Vec<String>> {
    let begun = one_by_one(space, client, kind, CLIENTS, addr)?;
    let now = Counters::read(space)?;
    ensure!(
        now.listen_overflows >= TOO_MANY as u64,
        "expected five overflows: {now:?}"
    );
    Ok(begun.into_iter().skip(CLIENTS - TOO_MANY).collect())
}

/// What that must look like.
pub(crate) fn queue_full(space: &Namespace, owner: &Role, dropped: &[String]) -> Expected {
    Expected::drop(space.inum, "syn_dropped", "accept_queue_full")
        .at_least(TOO_MANY)
        .by(owner)
        .remote(dropped)
        .accept_queue(3, 2)
}

fn same_process(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "127.0.0.1:8080");
    let both = case.role(&space, "self-talker")?;
    both.ok(&format!("listener tcp4 {addr} 2"))?;
    let dropped = overrun(&space, &both, "tcp4", addr)?;
    case.expect(queue_full(&space, &both, &dropped).local(&[addr]))
}

/// A stuck server and a client in a namespace.
fn pair(case: &mut Case, listener: &str) -> Result<(Rc<Namespace>, Rc<Role>, Rc<Role>)> {
    let space = case.space()?;
    let server = case.role(&space, "stuck-server")?;
    server.ok(&format!("listener {listener} 2"))?;
    let client = case.role(&space, "innocent")?;
    Ok((space, server, client))
}

fn other_process(case: &mut Case) -> Result<()> {
    let addr = "127.0.0.1:8080";
    let (space, server, client) = pair(case, &format!("tcp4 {addr}"))?;
    case.watch(&space)?;
    let dropped = overrun(&space, &client, "tcp4", addr)?;
    case.expect(queue_full(&space, &server, &dropped).local(&[addr]))
}

fn v6(case: &mut Case) -> Result<()> {
    let addr = "[::1]:8080";
    let (space, server, client) = pair(case, &format!("tcp6 {addr}"))?;
    let dropped = overrun(&space, &client, "tcp6", addr)?;
    case.expect(queue_full(&space, &server, &dropped).v6().local(&[addr]))
}

fn dual_stack(case: &mut Case) -> Result<()> {
    let (space, server, client) = pair(case, "tcp6 [::]:8080")?;
    let dropped = overrun(&space, &client, "tcp4", "127.0.0.1:8080")?;
    let local = ["127.0.0.1:8080", "0.0.0.0:8080"];
    case.expect(queue_full(&space, &server, &dropped).local(&local))
}

/// The queue is that of a TCP socket inside; the process only has the MPTCP one.
fn mptcp_listener(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "127.0.0.1:8080");
    let server = case.role(&space, "mptcp-server")?;
    let probe: i32 = server.ask("socket mptcp4")?.parse()?;
    if probe < 0 {
        return Err(Skip::because("this kernel has no MPTCP"));
    }
    server.ok(&format!("listener mptcp4 {addr} 2"))?;
    let client = case.role(&space, "innocent")?;
    let dropped = overrun(&space, &client, "tcp4", addr)?;
    case.expect(
        queue_full(&space, &server, &dropped)
            .protocols(&["tcp", "mptcp"])
            .local(&[addr]),
    )
}

fn other_netns(case: &mut Case) -> Result<()> {
    let addr = "10.7.0.1:8080";
    let (space, far) = (case.space()?, case.space()?);
    space.veth_to(&far, "veth0", "veth1")?;
    space.address("veth0", IpAddr::from([10, 7, 0, 1]), 24)?;
    far.address("veth1", IpAddr::from([10, 7, 0, 2]), 24)?;
    let server = case.role(&space, "stuck-server")?;
    server.ok(&format!("listener tcp4 {addr} 2"))?;
    let client = case.role(&far, "far-client")?;
    let dropped = overrun(&space, &client, "tcp4", addr)?;
    case.expect(queue_full(&space, &server, &dropped).local(&[addr]))
}

/// A TUN device with peers that never answer, and a listener behind it.
pub(crate) struct Wire {
    pub(crate) space: Rc<Namespace>,
    pub(crate) server: Rc<Role>,
    pub(crate) listener: i32,
    pub(crate) tun: Tun,
    pub(crate) addr: SocketAddr,
}

impl Wire {
    pub(crate) fn new(case: &mut Case, own: IpAddr, cookies: u8, backlog: u32) -> Result<Self> {
        let kind = if own.is_ipv4() { "tcp4" } else { "tcp6" };
        let listen = SocketAddr::new(own, 8080);
        Self::with(case, own, cookies, &format!("{kind} {listen} {backlog}"))
    }

    /// The same with any listener on port 8080.
    pub(crate) fn with(case: &mut Case, own: IpAddr, cookies: u8, listen: &str) -> Result<Self> {
        Self::ordered(case, own, cookies, &format!("listener {listen}"))
    }

    /// The same with a listener that the server is ordered to make.
    pub(crate) fn ordered(case: &mut Case, own: IpAddr, cookies: u8, order: &str) -> Result<Self> {
        let space = case.space()?;
        let tun = Tun::new(&space)?;
        space.address(tun::NAME, own, if own.is_ipv4() { 24 } else { 64 })?;
        space.sysctl("net/ipv4/tcp_syncookies", &cookies.to_string())?;
        let server = case.role(&space, "stuck-server")?;
        let addr = SocketAddr::new(own, 8080);
        let listener = server.ok(order)?;
        Ok(Self {
            space,
            server,
            listener,
            tun,
            addr,
        })
    }

    /// The n-th peer.
    pub(crate) fn peer(&self, n: usize) -> Result<SocketAddr> {
        Ok(tun::fake_peer(self.addr.ip(), u8::try_from(n + 10)?))
    }

    pub(crate) fn peers(&self, range: std::ops::Range<usize>) -> Result<Vec<SocketAddr>> {
        range.map(|n| self.peer(n)).collect()
    }

    /// A SYN of every peer in `range`.
    pub(crate) fn syns(&self, range: std::ops::Range<usize>) -> Result<()> {
        for peer in self.peers(range)? {
            self.tun.send(&Segment::syn(peer, self.addr))?;
        }
        Ok(())
    }
}

const V4: [u8; 4] = [10, 77, 0, 1];

/// syncookies off, backlog 2: three requests (two before 5.11) fill the queue.
fn request_queue_full(case: &mut Case) -> Result<()> {
    let wire = Wire::new(case, IpAddr::from(V4), 0, 2)?;
    wire.space.sysctl("net/ipv4/tcp_max_syn_backlog", "128")?;
    case.watch(&wire.space)?;
    wire.syns(0..CLIENTS)?;
    Counters::await_in(&wire.space, "a full request queue", |now| {
        now.request_queue_full >= TOO_MANY as u64
    })?;
    let answered = wire.tun.drain(Segment::is_syn_ack)?.len();
    let dropped = CLIENTS - answered;
    let now = Counters::read(&wire.space)?;
    ensure!(
        (2..=3).contains(&answered)
            && now.request_queue_full == dropped as u64
            && now.listen_drops == dropped as u64
            && now.listen_overflows == 0,
        "{answered} SYN-ACKs for {CLIENTS} SYNs, but {now:?}"
    );
    case.expect(
        Expected::drop(wire.space.inum, "syn_dropped", "request_queue_full")
            .times(dropped as u64)
            .by(&wire.server)
            .local(&[&wire.addr.to_string()])
            .remote(&wire.peers(answered..CLIENTS)?)
            .accept_queue(0, 2)
            .request_queue_len(answered as u64),
    )
}

/// Neither queue is full: the kernel has no way to answer. Packets do not tell that.
fn no_route_back(case: &mut Case) -> Result<()> {
    case.needs_exact("syn_drop")?;
    let wire = Wire::new(case, IpAddr::from(V4), 1, 64)?;
    for device in ["all", tun::NAME] {
        let file = format!("net/ipv4/conf/{device}/rp_filter");
        wire.space.sysctl(&file, "0")?;
    }
    let stranger = SocketAddr::from(([192, 0, 2, 9], 20_000));
    wire.tun.send(&Segment::syn(stranger, wire.addr))?;
    let now = Counters::await_in(&wire.space, "a drop", |now| now.listen_drops > 0)?;
    ensure!(now.listen_overflows == 0, "no queue is full, but {now:?}");
    case.expect(
        Expected::drop(wire.space.inum, "syn_dropped", "other")
            .by(&wire.server)
            .local(&[&wire.addr.to_string()])
            .remote(&[stranger])
            .accept_queue(0, 64),
    )
}

/// More drops than anybody wants described: the totals must equal the kernel's
/// counters to the last one, whatever becomes of the descriptions.
fn flood(case: &mut Case) -> Result<()> {
    const SYNS: u16 = 10_000;
    let wire = Wire::new(case, IpAddr::from(V4), 1, 2)?;
    case.watch(&wire.space)?;
    let client = case.role(&wire.space, "innocent")?;
    let addr = wire.addr.to_string();
    one_by_one(&wire.space, &client, "tcp4", CLIENTS - TOO_MANY, &addr)?;
    for nth in 0..SYNS {
        let mut peer = wire.peer(0)?;
        peer.set_port(20_000 + nth);
        wire.tun.send(&Segment::syn(peer, wire.addr))?;
    }
    let now = Counters::await_in(&wire.space, "every SYN's drop", |now| {
        now.listen_overflows >= u64::from(SYNS)
    })?;
    ensure!(
        now.listen_overflows == u64::from(SYNS),
        "SYNs: {SYNS}, but {now:?}"
    );
    case.expect(
        Expected::drop(wire.space.inum, "syn_dropped", "accept_queue_full")
            .at_least(1)
            .by(&wire.server)
            .local(&[&addr])
            .accept_queue(3, 2),
    )
}

/// syncookies off, a large backlog, tcp_max_syn_backlog 8: the last quarter is kept
/// for peers that are known.
fn backlog_reserve(case: &mut Case) -> Result<()> {
    const SYNS: usize = 12;
    const ADMITTED: usize = 7;
    let wire = Wire::new(case, IpAddr::from(V4), 0, 100)?;
    wire.space.sysctl("net/ipv4/tcp_max_syn_backlog", "8")?;
    wire.syns(0..SYNS)?;
    let dropped = (SYNS - ADMITTED) as u64;
    let now = Counters::await_in(&wire.space, "five drops", |now| now.listen_drops >= dropped)?;
    let answered = wire.tun.drain(Segment::is_syn_ack)?.len();
    ensure!(
        answered == ADMITTED
            && now.listen_drops == dropped
            && now.listen_overflows == 0
            && now.request_queue_full == 0,
        "{answered} SYN-ACKs for {SYNS} SYNs, but {now:?}"
    );
    case.expect(
        Expected::drop(wire.space.inum, "syn_dropped", "backlog_reserve")
            .times(dropped)
            .by(&wire.server)
            .local(&[&wire.addr.to_string()])
            .remote(&wire.peers(ADMITTED..SYNS)?)
            .accept_queue(0, 100)
            .request_queue_len(ADMITTED as u64),
    )
}

//! Every failure that can be provoked without harm: how.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use tracer_common::{Cause, Kind};

use super::{
    actor::{Actor, Order},
    stage::{Evidence, Knock, Scene, Stage, Told, Unfit, queued, wait},
};
use crate::{
    explain::{finding::PortState, snapshot},
    host::{
        private_net as net,
        sock_diag::{Protocol, state},
    },
};

/// What is provoked, in the order in which it is told.
pub(super) const SCENES: &[Scene] = &[
    scene(Kind::ConnectFailed, Cause::PortsExhausted, no_port),
    Scene {
        is_about_closers: true,
        ..scene(Kind::ConnectFailed, Cause::PortsExhausted, time_wait)
    },
    scene(Kind::ConnectFailed, Cause::AddressTaken, taken),
    scene(Kind::ConnectFailed, Cause::NoSourceAddress, no_source),
    scene(Kind::BindFailed, Cause::AddressNotLocal, not_local),
    scene(Kind::BindFailed, Cause::PortInUse, bind_in_use),
    scene(Kind::BindFailed, Cause::PortsExhausted, bind_no_port),
    scene(Kind::ListenFailed, Cause::PortInUse, listen_in_use),
    scene(Kind::ListenFailed, Cause::PortsExhausted, listen_no_port),
    scene(Kind::SynDropped, Cause::AcceptQueueFull, accept_queue),
    scene(Kind::SynDropped, Cause::RequestQueueFull, request_queue),
    scene(Kind::SynDropped, Cause::BacklogReserve, reserve),
    scene(Kind::AckDropped, Cause::AcceptQueueFull, |stage| {
        late_ack(stage, false)
    }),
    scene(Kind::OverflowReset, Cause::AcceptQueueFull, |stage| {
        late_ack(stage, true)
    }),
];

/// What is not provoked, and why.
pub(super) const NOT_PLAYED: &[(Kind, Cause, &str)] = &[
    (
        Kind::ConnectFailed,
        Cause::RefusedByPolicy,
        "not provoked: it takes a program in the host's cgroups",
    ),
    (
        Kind::SynDropped,
        Cause::Other,
        "not provoked: it takes a failing allocation, a route that is missing or a security module",
    ),
];

const fn scene(kind: Kind, cause: Cause, play: fn(&mut Stage) -> Result<Told>) -> Scene {
    Scene {
        kind,
        cause,
        is_about_closers: false,
        play,
    }
}

const CLIENT: &str = "selftest-client";
const SERVER: &str = "selftest-server";
const CLOSER: &str = "selftest-closer";
const OTHER: &str = "selftest-other";

const NO_ADDRESS: &str = "EADDRNOTAVAIL";
const IN_USE: &str = "EADDRINUSE";

/// How many ports there are where there are to be few, and how many connects
/// (binds) there are too many.
const PORTS: u32 = 4;
const TOO_MANY: u64 = 3;

const ANY_PORT: SocketAddr = at(0);
const SERVICE: SocketAddr = at(8080);

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn few_ports(stage: &Stage) -> Result<()> {
    stage.set("ip_local_port_range", "40000 40003")
}

/// A process that listens.
fn server(backlog: i32, is_deferred: bool) -> Result<(Actor, usize)> {
    let mut server = Actor::start(SERVER)?;
    let listener = server.tell(Order::Open { v6: false })?;
    if is_deferred {
        server.tell(Order::Defer(listener))?;
    }
    server.tell(Order::Bind(listener, SERVICE))?;
    server.tell(Order::Listen(listener, backlog))?;
    Ok((server, listener))
}

/// The caller failed `times` times.
fn failed(who: Actor, times: u64, errno: &'static str, mut cast: Vec<Actor>) -> Told {
    let blamed = who.who.clone();
    cast.push(who);
    Told {
        blamed,
        evidence: Evidence::Calls(times, errno),
        ports: None,
        cast,
    }
}

/// Connects that must fail for want of an address.
fn fail_to_connect(client: &mut Actor) -> Result<()> {
    for _ in 0..TOO_MANY {
        let socket = client.tell(Order::Open { v6: false })?;
        client.fail(Order::Connect(socket, SERVICE), Errno::ADDRNOTAVAIL)?;
        client.tell(Order::Close(socket))?;
    }
    Ok(())
}

fn no_port(stage: &mut Stage) -> Result<Told> {
    few_ports(stage)?;
    let (server, _) = server(64, false)?;
    let mut client = Actor::start(CLIENT)?;
    for _ in 0..PORTS {
        let socket = client.tell(Order::Open { v6: false })?;
        client.tell(Order::Connect(socket, SERVICE))?;
        wait(|| Ok(client.tell(Order::Connected(socket))? == 1))?;
    }
    fail_to_connect(&mut client)?;
    let ports = (PortState::Established, PORTS, client.who.clone());
    Ok(Told {
        ports: Some(ports),
        ..failed(client, TOO_MANY, NO_ADDRESS, vec![server])
    })
}

/// The ports are those of connections that another process has closed, which is
/// gone.
fn time_wait(stage: &mut Stage) -> Result<Told> {
    few_ports(stage)?;
    // Else the kernel takes them again, on loopback after a second.
    stage.set("tcp_tw_reuse", "0")?;
    let (mut server, listener) = server(64, false)?;
    let mut closer = Actor::start(CLOSER)?;
    for _ in 0..PORTS {
        let socket = closer.tell(Order::Open { v6: false })?;
        closer.tell(Order::Connect(socket, SERVICE))?;
        let mut accepted = None;
        wait(|| {
            accepted = server.attempt(Order::Accept(listener))?.ok();
            Ok(accepted.is_some())
        })?;
        closer.tell(Order::Close(socket))?;
        if let Some(accepted) = accepted {
            server.tell(Order::Close(accepted))?;
        }
    }
    let ports = (PortState::TimeWait, PORTS, closer.who.clone());
    drop(closer);
    wait(|| {
        let rows = snapshot::list(Protocol::Tcp, 1 << state::TIME_WAIT)?;
        Ok(rows.len() == usize::try_from(PORTS)?)
    })?;
    let mut client = Actor::start(CLIENT)?;
    fail_to_connect(&mut client)?;
    Ok(Told {
        ports: Some(ports),
        ..failed(client, TOO_MANY, NO_ADDRESS, vec![server])
    })
}

/// Two sockets with one address and one destination.
fn taken(_: &mut Stage) -> Result<Told> {
    let (server, _) = server(64, false)?;
    let mut client = Actor::start(CLIENT)?;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let socket = client.tell(Order::Open { v6: false })?;
        client.tell(Order::Share(socket))?;
        client.tell(Order::Bind(socket, at(5000)))?;
        sockets.push(socket);
    }
    if let [first, second] = sockets[..] {
        client.tell(Order::Connect(first, SERVICE))?;
        client.fail(Order::Connect(second, SERVICE), Errno::ADDRNOTAVAIL)?;
    }
    Ok(failed(client, 1, NO_ADDRESS, vec![server]))
}

fn no_source(_: &mut Stage) -> Result<Told> {
    let mut client = Actor::start(CLIENT)?;
    let socket = match client.attempt(Order::Open { v6: true })? {
        Ok(socket) => socket,
        Err(_) => return Err(Unfit("this kernel has no IPv6".into()).into()),
    };
    net::no_ipv6_addresses()?;
    let nowhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let to = SocketAddr::from((nowhere, 8080));
    client.fail(Order::Connect(socket, to), Errno::ADDRNOTAVAIL)?;
    Ok(failed(client, 1, NO_ADDRESS, Vec::new()))
}

fn not_local(_: &mut Stage) -> Result<Told> {
    let mut server = Actor::start(SERVER)?;
    let socket = server.tell(Order::Open { v6: false })?;
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 8080));
    server.fail(Order::Bind(socket, elsewhere), Errno::ADDRNOTAVAIL)?;
    Ok(failed(server, 1, NO_ADDRESS, Vec::new()))
}

fn bind_in_use(_: &mut Stage) -> Result<Told> {
    let mut owner = Actor::start(OTHER)?;
    let socket = owner.tell(Order::Open { v6: false })?;
    owner.tell(Order::Bind(socket, SERVICE))?;
    let mut server = Actor::start(SERVER)?;
    let socket = server.tell(Order::Open { v6: false })?;
    server.fail(Order::Bind(socket, SERVICE), Errno::ADDRINUSE)?;
    Ok(failed(server, 1, IN_USE, vec![owner]))
}

/// Another process takes all ports there are.
fn hoard(stage: &Stage) -> Result<Actor> {
    few_ports(stage)?;
    let mut owner = Actor::start(OTHER)?;
    for _ in 0..PORTS {
        let socket = owner.tell(Order::Open { v6: false })?;
        owner.tell(Order::Bind(socket, SocketAddr::from(([0, 0, 0, 0], 0))))?;
    }
    Ok(owner)
}

fn bind_no_port(stage: &mut Stage) -> Result<Told> {
    let owner = hoard(stage)?;
    let mut server = Actor::start(SERVER)?;
    let socket = server.tell(Order::Open { v6: false })?;
    for _ in 0..TOO_MANY {
        server.fail(Order::Bind(socket, ANY_PORT), Errno::ADDRINUSE)?;
    }
    Ok(failed(server, TOO_MANY, IN_USE, vec![owner]))
}

/// Both may be bound to the port, only one may listen.
fn listen_in_use(_: &mut Stage) -> Result<Told> {
    let [mut first, mut second] = [Actor::start(OTHER)?, Actor::start(SERVER)?];
    for actor in [&mut first, &mut second] {
        let socket = actor.tell(Order::Open { v6: false })?;
        actor.tell(Order::Share(socket))?;
        actor.tell(Order::Bind(socket, SERVICE))?;
    }
    first.tell(Order::Listen(0, 8))?;
    second.fail(Order::Listen(0, 8), Errno::ADDRINUSE)?;
    Ok(failed(second, 1, IN_USE, vec![first]))
}

/// `listen()` on a socket that was never bound needs a port, too.
fn listen_no_port(stage: &mut Stage) -> Result<Told> {
    let owner = hoard(stage)?;
    let mut server = Actor::start(SERVER)?;
    let socket = server.tell(Order::Open { v6: false })?;
    for _ in 0..TOO_MANY {
        server.fail(Order::Listen(socket, 8), Errno::ADDRINUSE)?;
    }
    Ok(failed(server, TOO_MANY, IN_USE, vec![owner]))
}

/// The kernel dropped something: whose listener it was answers for it.
fn dropped(server: Actor, client: Actor) -> Told {
    Told {
        blamed: server.who.clone(),
        evidence: Evidence::Counters,
        ports: None,
        cast: vec![server, client],
    }
}

/// Nobody accepts: a queue with a backlog of 1 holds two.
fn accept_queue(stage: &mut Stage) -> Result<Told> {
    let (server, _) = server(1, false)?;
    let mut client = Actor::start(CLIENT)?;
    for expected in 1..=2 {
        let knock = stage.knock(&mut client, SERVICE, |_, _| Ok(queued()? == expected))?;
        ensure!(
            matches!(knock, Knock::LetIn(_)),
            "a queue with room is full"
        );
    }
    for _ in 0..TOO_MANY {
        let knock = stage.knock(&mut client, SERVICE, |_, _| Ok(false))?;
        give_up(&mut client, knock)?;
    }
    Ok(dropped(server, client))
}

/// Clients that give up do not try again.
fn give_up(client: &mut Actor, knock: Knock) -> Result<()> {
    if let Knock::Dropped(socket) = knock {
        client.tell(Order::Reset(socket))?;
    }
    Ok(())
}

/// With `TCP_DEFER_ACCEPT` a connection stays in the request queue until its client
/// sends something, which no client does here.
fn request_queue(stage: &mut Stage) -> Result<Told> {
    crowd(stage, 2, 8, "128")
}

/// As long as the queue has room, but `tcp_max_syn_backlog` has only its last
/// quarter left.
fn reserve(stage: &mut Stage) -> Result<Told> {
    crowd(stage, 100, 12, "8")
}

fn crowd(stage: &Stage, backlog: i32, clients: u32, max_syn_backlog: &str) -> Result<Told> {
    stage.set("tcp_syncookies", "0")?;
    stage.set("tcp_max_syn_backlog", max_syn_backlog)?;
    let (server, _) = server(backlog, true)?;
    let mut client = Actor::start(CLIENT)?;
    let mut drops = 0;
    for _ in 0..clients {
        let knock = stage.knock(&mut client, SERVICE, |client, socket| {
            Ok(client.tell(Order::Connected(socket))? == 1)
        })?;
        drops += u64::from(matches!(knock, Knock::Dropped(_)));
        give_up(&mut client, knock)?;
    }
    ensure!(drops >= TOO_MANY, "only {drops} of {clients} SYNs dropped");
    Ok(dropped(server, client))
}

/// Four handshakes that wait for data; then the listener has room for one, and the
/// data come, which for the kernel are the last part of the handshake.
fn late_ack(stage: &mut Stage, is_reset: bool) -> Result<Told> {
    stage.set("tcp_syncookies", "0")?;
    stage.set("tcp_abort_on_overflow", if is_reset { "1" } else { "0" })?;
    let (mut server, listener) = server(64, true)?;
    let mut client = Actor::start(CLIENT)?;
    let mut sockets = Vec::new();
    for _ in 0..=TOO_MANY {
        let knock = stage.knock(&mut client, SERVICE, |client, socket| {
            Ok(client.tell(Order::Connected(socket))? == 1)
        })?;
        match knock {
            Knock::LetIn(socket) => sockets.push(socket),
            Knock::Dropped(_) => anyhow::bail!("a queue with room is full"),
        }
    }
    server.tell(Order::Listen(listener, 0))?;
    for (overflows, socket) in (0..).zip(&sockets) {
        client.tell(Order::Send(*socket))?;
        if overflows == 0 {
            wait(|| Ok(queued()? == 1))?;
            continue;
        }
        stage.await_counters(|now| now.listen_overflows >= overflows)?;
        if is_reset {
            // The client is told so.
            wait(|| {
                let now = client.attempt(Order::Connected(*socket))?;
                Ok(now != Ok(1))
            })?;
        }
        client.tell(Order::Reset(*socket))?;
    }
    Ok(dropped(server, client))
}

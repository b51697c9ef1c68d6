//! How each failure is caused. Runs inside of the private network namespace.
//!
//! Nothing here fills a request queue: the kernel would log that. What a call did is
//! told by its errno, what a packet met by the namespace's own counters.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, accept, accept_with, bind, connect,
        listen, send, socket_with, sockopt,
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::actor::{Caused, Report};
use crate::{
    attribute::namespaces::{self, Netstat},
    explain::snapshot,
    host::{
        plan::Purpose,
        private_net,
        sock_diag::{LISTENERS, Protocol},
    },
};

/// Closers are recognised by this port of the listener.
pub(super) const CLOSER_PORT: u16 = 7001;

/// Each scene has ports of its own, so that none meets what another has left.
const CONNECT_PORT: u16 = 7002;
const TAKEN_PORT: u16 = 7003;
const BIND_PORT: u16 = 7004;
const LISTEN_PORT: u16 = 7005;
const SYN_PORT: u16 = 7006;
const ACK_PORT: u16 = 7007;

/// How long a packet on loopback may take. Usually it has arrived when the call returns.
const PATIENCE: Duration = Duration::from_millis(500);

type Tell<'a> = &'a mut dyn FnMut(Report) -> Result<()>;

/// Plays the scenes that these purposes need, and reports what was caused.
///
/// # Errors
/// A report cannot be given.
pub(super) fn play(purposes: &[Purpose], tell: Tell<'_>) -> Result<()> {
    let has_v6 = socket_of(true).is_ok() && {
        // Where IPv6 is off by default, it is off here until somebody says otherwise.
        let _ = private_net::set("net/ipv6/conf/lo/disable_ipv6", "0");
        // To try a bind() would be a failure more.
        private_net::has_ipv6_loopback()
    };
    for (of, scene) in SCENES {
        if !of.iter().any(|purpose| purposes.contains(purpose)) {
            continue;
        }
        for v6 in [false, true] {
            if !v6 || has_v6 {
                report(of, v6, scene(v6), tell)?;
            }
        }
    }
    // Last: it takes the IPv6 address of lo away for a moment.
    if purposes.contains(&Purpose::ConnectV6Source) {
        let purpose = Purpose::ConnectV6Source;
        match has_v6 {
            true => report(&[purpose], true, no_source(), tell)?,
            false => tell(Report::Unfit(purpose, true, "there is no IPv6".into()))?,
        }
    }
    Ok(())
}

/// Causes failures, by IPv6 or not; how many, for each purpose.
type Scene = fn(bool) -> Result<Vec<(Purpose, u64)>>;

/// Each scene, and the purposes whose hooks must see what it does.
const SCENES: &[(&[Purpose], Scene)] = &[
    (&[Purpose::Closer], closer),
    (&[Purpose::Connect], connects),
    (&[Purpose::Bind], binds),
    (&[Purpose::Listen], listens),
    (
        &[
            Purpose::SynDrop,
            Purpose::Listener,
            Purpose::Acceptor,
            Purpose::AcceptFailure,
        ],
        syn,
    ),
    (&[Purpose::AckDrop, Purpose::OverflowReset], ack),
];

fn report(
    of: &[Purpose],
    v6: bool,
    caused: Result<Vec<(Purpose, u64)>>,
    tell: Tell<'_>,
) -> Result<()> {
    match caused {
        Ok(all) => {
            for (purpose, times) in all {
                tell(Report::Caused(Caused { purpose, v6, times }))?;
            }
            Ok(())
        }
        Err(why) => of
            .iter()
            .try_for_each(|purpose| tell(Report::Unfit(*purpose, v6, format!("{why:#}")))),
    }
}

fn local(v6: bool, port: u16) -> SocketAddr {
    let ip = match v6 {
        true => IpAddr::V6(Ipv6Addr::LOCALHOST),
        false => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    SocketAddr::new(ip, port)
}

/// An address of no interface: from the ranges for documentation.
fn elsewhere(v6: bool) -> SocketAddr {
    match v6 {
        true => SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 80)),
        false => SocketAddr::from(([192, 0, 2, 1], 80)),
    }
}

fn socket_of(v6: bool) -> Result<OwnedFd, Errno> {
    let family = match v6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None)
}

/// A socket that is bound, and lets others bind to the same.
fn free(v6: bool, port: u16) -> Result<OwnedFd, Errno> {
    let socket = socket_of(v6)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &local(v6, port))?;
    Ok(socket)
}

fn listener(v6: bool, port: u16, backlog: i32) -> Result<OwnedFd> {
    let socket = free(v6, port).with_context(|| format!("bind to port {port}"))?;
    listen(&socket, backlog)?;
    Ok(socket)
}

/// A call that must fail with `errno`.
fn must_fail(result: Result<(), Errno>, errno: Errno) -> Result<()> {
    match result {
        Err(found) if found == errno => Ok(()),
        Err(found) => bail!("a call failed with {found}, not with {errno}"),
        Ok(()) => bail!("a call succeeded that was to fail with {errno}"),
    }
}

/// A connect that goes on by itself.
fn knock(v6: bool, port: u16) -> Result<OwnedFd> {
    let socket = socket_of(v6)?;
    match connect(&socket, &local(v6, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error).with_context(|| format!("connect to port {port}")),
    }
}

/// The same, until it is connected.
fn connected(v6: bool, port: u16) -> Result<OwnedFd> {
    let socket = knock(v6, port)?;
    wait("no connection", || {
        Ok(rustix::net::getpeername(&socket).is_ok())
    })?;
    Ok(socket)
}

fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "{what} within {PATIENCE:?}");
        sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Closes with a reset: nothing is sent again later.
fn reset(socket: OwnedFd) {
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

fn counters() -> Result<Netstat> {
    let file = File::open("/proc/self/net/netstat").context("/proc/self/net/netstat")?;
    Ok(namespaces::read(&file)?)
}

/// How many connections wait in the accept queues of this port.
fn queued(port: u16) -> Result<u32> {
    let listeners = snapshot::list(Protocol::Tcp, LISTENERS)?;
    let here = listeners.iter().filter(|row| row.local.port() == port);
    Ok(here.map(|row| row.receive_queue).sum())
}

/// The ports are used up; a 4-tuple is taken.
fn connects(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let _server = listener(v6, CONNECT_PORT, 64)?;
    // Each family has a range of its own; ends of different parity, or the kernel logs.
    let (range, ports) = match v6 {
        true => ("40002 40003", 2),
        false => ("40000 40001", 2),
    };
    let mut times = 0;
    let mut taken = Vec::new();
    let is_narrow = private_net::set("net/ipv4/ip_local_port_range", range);
    if is_narrow.is_ok() {
        for _ in 0..ports {
            taken.push(connected(v6, CONNECT_PORT)?);
        }
        let one_more = socket_of(v6)?;
        let result = connect(&one_more, &local(v6, CONNECT_PORT));
        must_fail(result, Errno::ADDRNOTAVAIL).context("ports used up")?;
        times += 1;
        private_net::set("net/ipv4/ip_local_port_range", "32768 60999")?;
    }
    let [first, second] = [free(v6, TAKEN_PORT)?, free(v6, TAKEN_PORT)?];
    match connect(&first, &local(v6, CONNECT_PORT)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let result = connect(&second, &local(v6, CONNECT_PORT));
    must_fail(result, Errno::ADDRNOTAVAIL).context("4-tuple taken")?;
    times += 1;
    taken.push(first);
    taken.into_iter().for_each(reset);
    Ok(vec![(Purpose::Connect, times)])
}

fn binds(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let socket = socket_of(v6)?;
    must_fail(bind(&socket, &elsewhere(v6)), Errno::ADDRNOTAVAIL)?;
    let _owner = listener(v6, BIND_PORT, 1)?;
    must_fail(bind(&socket, &local(v6, BIND_PORT)), Errno::ADDRINUSE)?;
    Ok(vec![(Purpose::Bind, 2)])
}

fn listens(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let [first, second] = [free(v6, LISTEN_PORT)?, free(v6, LISTEN_PORT)?];
    listen(&first, 1)?;
    must_fail(listen(&second, 1), Errno::ADDRINUSE)?;
    Ok(vec![(Purpose::Listen, 1)])
}

/// A queue with a backlog of 1 holds two; before, one connection is accepted, so that
/// there is an acceptor to be named.
fn syn(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let server = listener(v6, SYN_PORT, 1)?;
    let mut clients = vec![connected(v6, SYN_PORT)?];
    wait("nothing to accept", || Ok(queued(SYN_PORT)? == 1))?;
    // The two syscalls have a tracepoint each.
    clients.push(match v6 {
        true => accept(&server),
        false => accept_with(&server, SocketFlags::CLOEXEC),
    }?);
    for expected in 1..=2 {
        clients.push(connected(v6, SYN_PORT)?);
        wait("nothing is queued", || Ok(queued(SYN_PORT)? == expected))?;
    }
    must_fail(accept_without_descriptor(&server, v6), Errno::MFILE)?;
    let before = counters()?;
    let dropped = knock(v6, SYN_PORT)?;
    wait("no SYN was dropped", || {
        Ok(counters()?.listen_drops > before.listen_drops)
    })?;
    reset(dropped);
    let times = counters()?.since(before).unwrap_or_default().listen_drops;
    clients.into_iter().for_each(reset);
    Ok(vec![
        (Purpose::SynDrop, times),
        (Purpose::Listener, times),
        (Purpose::Acceptor, times),
        (Purpose::AcceptFailure, times),
    ])
}

/// Calls `accept()` while this process may have no descriptor more.
fn accept_without_descriptor(server: &OwnedFd, v6: bool) -> rustix::io::Result<()> {
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    setrlimit(Resource::Nofile, none)?;
    let accepted = match v6 {
        true => accept(server),
        false => accept_with(server, SocketFlags::CLOEXEC),
    };
    setrlimit(Resource::Nofile, before)?;
    accepted.map(drop)
}

/// Handshakes that wait for data; then the listener has room for one, and the data
/// come, which for the kernel are the last part of the handshake.
fn ack(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let server = listener(v6, ACK_PORT, 64)?;
    private_net::defer_accept(server.as_fd())?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(connected(v6, ACK_PORT)?);
    }
    listen(&server, 0)?;
    let mut clients = clients.into_iter();
    let mut next = || clients.next().context("no client");
    let first = next()?;
    send(&first, b"x", SendFlags::NOSIGNAL)?;
    wait("nothing is queued", || Ok(queued(ACK_PORT)? == 1))?;
    let overflow = |client: OwnedFd| -> Result<u64> {
        let before = counters()?;
        send(&client, b"x", SendFlags::NOSIGNAL)?;
        wait("no final ACK was dropped", || {
            Ok(counters()?.listen_overflows > before.listen_overflows)
        })?;
        reset(client);
        Ok(counters()?
            .since(before)
            .unwrap_or_default()
            .listen_overflows)
    };
    let mut caused = vec![(Purpose::AckDrop, overflow(next()?)?)];
    // Where it cannot be set, there is no reset to be seen.
    if private_net::set("net/ipv4/tcp_abort_on_overflow", "1").is_ok() {
        let times = overflow(next()?);
        private_net::set("net/ipv4/tcp_abort_on_overflow", "0")?;
        caused.push((Purpose::OverflowReset, times?));
    }
    reset(first);
    Ok(caused)
}

/// Who closes first is remembered.
fn closer(v6: bool) -> Result<Vec<(Purpose, u64)>> {
    let server = listener(v6, CLOSER_PORT, 4)?;
    let client = connected(v6, CLOSER_PORT)?;
    wait("nothing to accept", || Ok(queued(CLOSER_PORT)? == 1))?;
    let accepted = accept_with(&server, SocketFlags::CLOEXEC)?;
    drop(client);
    reset(accepted);
    Ok(vec![(Purpose::Closer, 1)])
}

fn no_source() -> Result<Vec<(Purpose, u64)>> {
    private_net::no_ipv6_addresses().context("::1 cannot be removed")?;
    let socket = socket_of(true)?;
    let result = connect(&socket, &elsewhere(true));
    // It may be played again.
    private_net::ipv6_address_back().context("::1 cannot be added again")?;
    must_fail(result, Errno::ADDRNOTAVAIL)?;
    Ok(vec![(Purpose::ConnectV6Source, 1)])
}

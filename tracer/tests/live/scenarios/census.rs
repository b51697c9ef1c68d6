//! Who has the ports: each state a port can be in, each way of losing its owner.

use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::case::{Case, Scenario, Skip, await_in, scenario};
use crate::census::{self, agree, expected, listed};
use crate::expect::Expected;
use crate::limits;
use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::Tracer;

pub(crate) const ALL: &[Scenario] = &[
    scenario("census/every-state-v4", &["connect", "closer"], states_v4),
    scenario("census/every-state-v6", &["connect", "closer"], states_v6),
    scenario(
        "census/every-state-v4-mapped",
        &["connect", "closer"],
        states_mapped,
    ),
    scenario(
        "census/closed-before-tracer",
        &["connect", "closer"],
        before_tracer,
    ),
    scenario(
        "census/closed-by-shutdown",
        &["connect", "closer"],
        by_shutdown,
    ),
    scenario(
        "census/closed-for-an-mptcp-socket",
        &["connect", "closer"],
        mptcp,
    ),
    scenario("census/bound-then-connected", &["connect"], bound_elsewhere),
    scenario("census/hoarder-of-bound-sockets", &["connect"], hoarder),
    scenario("census/reset-sockets-hold-nothing", &["connect"], reset),
    scenario("census/own-port-range", &["connect"], own_range),
    scenario("census/reserved-ports", &["connect"], reserved),
    scenario("census/bind-finds-no-port", &["bind"], bind_exhausted),
    scenario("census/udp-bind-finds-no-port", &["bind"], udp_exhausted),
    scenario("census/restart-of-a-server", &["bind", "closer"], restart),
    scenario("census/taken-4-tuple", &["connect"], taken),
];

/// A server and its address, for clients in the same namespace.
struct Server {
    role: Rc<Role>,
    listener: i32,
    /// What clients use, `tcp4` or `tcp6`, and where they connect to.
    kind: &'static str,
    target: &'static str,
}

impl Server {
    fn start(
        case: &mut Case,
        space: &Namespace,
        kind: &'static str,
        address: &str,
        target: &'static str,
    ) -> Result<Self> {
        let role = case.role(space, "server")?;
        let family = if address.starts_with('[') {
            "tcp6"
        } else {
            "tcp4"
        };
        let listener = role.ok(&format!("listener {family} {address} 64"))?;
        Ok(Self {
            role,
            listener,
            kind,
            target,
        })
    }

    fn v4(case: &mut Case, space: &Namespace) -> Result<Self> {
        Self::start(case, space, "tcp4", "127.0.0.1:8080", "127.0.0.1:8080")
    }

    /// A connection that stays: both ends.
    fn connect(&self, client: &Role) -> Result<(i32, i32)> {
        let near = client.ok(&format!("socket {}", self.kind))?;
        client.ok(&format!("connect {near} {}", self.target))?;
        let far = self.role.ok(&format!("accept {}", self.listener))?;
        Ok((near, far))
    }

    /// A connection that the client closes first, until that leaves a `TIME_WAIT`
    /// socket at its end: where a late segment is repeated, the answer can end it.
    fn visit(&self, space: &Namespace, client: &Role) -> Result<()> {
        let before = listed(space, TIME_WAIT)?;
        for _ in 0..5 {
            let (near, far) = self.connect(client)?;
            client.ok(&format!("close {near}"))?;
            // Both at once would be another way to end.
            self.role.ok(&format!("wait {far}"))?;
            self.role.ok(&format!("close {far}"))?;
            if limits::soon(|| Ok(listed(space, TIME_WAIT)? == before + 1))? {
                return Ok(());
            }
        }
        bail!("a closed connection leaves no TIME_WAIT socket")
    }

    /// A connect that finds no port.
    fn refuse(&self, victim: &Role) -> Result<()> {
        let fd = victim.ok(&format!("socket {}", self.kind))?;
        victim.fails(
            &format!("connect {fd} {}", self.target),
            libc::EADDRNOTAVAIL,
        )
    }

    /// A victim finds no port: the census about that, if tracer runs.
    fn exhausted(&self, case: &mut Case, space: &Namespace) -> Result<Option<Value>> {
        let victim = case.role(space, "victim")?;
        self.refuse(&victim)?;
        case.expect(self.refusal(space, &victim))?;
        census::of(case, space, "connect_failed", "ports_exhausted")
    }

    /// That failure, as tracer tells it.
    fn refusal(&self, space: &Namespace, victim: &Role) -> Expected {
        let remote = self.target.replace("[::ffff:127.0.0.1]", "127.0.0.1");
        let expected = Expected::connect(space.inum, "ports_exhausted")
            .by(victim)
            .remote(&[&remote]);
        if remote.starts_with('[') {
            expected.v6()
        } else {
            expected
        }
    }
}

/// A namespace with this many ports from 40000 on, whose `TIME_WAIT` sockets on
/// loopback are not reused.
fn space_of(case: &mut Case, ports: u16) -> Result<Rc<Namespace>> {
    let space = case.space()?;
    let last = 39999 + ports;
    space.sysctl("net/ipv4/ip_local_port_range", &format!("40000 {last}"))?;
    space.sysctl("net/ipv4/tcp_tw_reuse", "0")?;
    Ok(space)
}

const TIME_WAIT: &str = "06";

/// Twenty ports: `TIME_WAIT` by a living and by a dead process, connections, a
/// listener, a bound socket, one that is being closed.
fn states(case: &mut Case, server: &str, target: &'static str, kind: &'static str) -> Result<()> {
    let space = space_of(case, 20)?;
    let server = Server::start(case, &space, kind, server, target)?;
    let any = if kind == "tcp4" { "0.0.0.0" } else { "[::]" };
    let closer = case.role(&space, "closer")?;
    let gone = case.role(&space, "closer-gone")?;
    let keeper = case.role(&space, "keeper")?;
    let owner = case.role(&space, "owner-in-range")?;
    owner.ok(&format!("listener {kind} {any}:40018 1"))?;
    let bound = owner.ok(&format!("socket {kind}"))?;
    owner.ok(&format!("bind {bound} {any}:40019"))?;
    for _ in 0..6 {
        server.visit(&space, &closer)?;
    }
    for _ in 0..3 {
        server.visit(&space, &gone)?;
    }
    // Its end closes the fourth one.
    let (_, far) = server.connect(&gone)?;
    gone.kill();
    server.role.ok(&format!("wait {far}"))?;
    server.role.ok(&format!("close {far}"))?;
    for _ in 0..7 {
        server.connect(&keeper)?;
    }
    // The server keeps its end: FIN_WAIT2.
    let (near, _) = server.connect(&closer)?;
    closer.ok(&format!("close {near}"))?;
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    agree(
        &census,
        "ports",
        &expected([
            ("time_wait closer", 6),
            ("time_wait closer-gone", 4),
            ("established keeper", 7),
            ("closing closer", 1),
            ("listening owner-in-range", 1),
            ("bound_unused owner-in-range", 1),
        ]),
    )?;
    let waiting = listed(&space, TIME_WAIT)?;
    ensure!(waiting == 10, "{waiting} TIME_WAIT sockets, not 10");
    for (state, role) in [
        ("time_wait", &closer),
        ("time_wait", &gone),
        ("established", &keeper),
        ("listening", &owner),
        ("bound_unused", &owner),
    ] {
        let pids = census::pids(&census, state, &role.comm);
        ensure!(pids == [role.pid as u64], "{state}: {pids:?} in {census}");
    }
    Ok(())
}

fn states_v4(case: &mut Case) -> Result<()> {
    states(case, "127.0.0.1:8080", "127.0.0.1:8080", "tcp4")
}

fn states_v6(case: &mut Case) -> Result<()> {
    states(case, "[::1]:8080", "[::1]:8080", "tcp6")
}

fn states_mapped(case: &mut Case) -> Result<()> {
    states(case, "127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", "tcp6")
}

/// Two `TIME_WAIT` sockets are older than a second tracer, two are not.
fn before_tracer(case: &mut Case) -> Result<()> {
    let space = space_of(case, 4)?;
    let server = Server::v4(case, &space)?;
    let closer = case.role(&space, "closer")?;
    server.visit(&space, &closer)?;
    server.visit(&space, &closer)?;
    let late = if case.tracer.is_some() {
        let (path, tier) = &case.another;
        Some(Tracer::started(path, &["--no-verify", "--hooks", tier])?)
    } else {
        None
    };
    server.visit(&space, &closer)?;
    server.visit(&space, &closer)?;
    let old = listed(&space, TIME_WAIT)?;
    let victim = case.role(&space, "victim")?;
    server.refuse(&victim)?;
    case.expect(server.refusal(&space, &victim))?;
    let Some(late) = late else { return Ok(()) };
    await_in(&late, &server.refusal(&space, &victim))?;
    let census =
        late.await_record(|record| record["type"] == "census" && record["netns"] == space.inum)?;
    late.stop()?;
    ensure!(
        old == 4,
        "a minute went by: {old} of 4 TIME_WAIT sockets are left"
    );
    census::adds_up(&census)?;
    agree(
        &census,
        "ports",
        &expected([("time_wait closer", 2), ("time_wait before_tracer", 2)]),
    )
}

/// `shutdown()` sends the FIN, whoever closes the descriptor later.
fn by_shutdown(case: &mut Case) -> Result<()> {
    let space = space_of(case, 2)?;
    let server = Server::v4(case, &space)?;
    let parent = case.role(&space, "parent")?;
    let (near, far) = server.connect(&parent)?;
    let (near_2, far_2) = server.connect(&parent)?;
    let child = case.fork(&parent, "child")?;
    child.ok(&format!("shutdown {near}"))?;
    // Its copies are not the last ones.
    child.ok(&format!("close {near}"))?;
    child.ok(&format!("close {near_2}"))?;
    parent.ok(&format!("close {near}"))?;
    parent.ok(&format!("close {near_2}"))?;
    server.role.ok(&format!("close {far}"))?;
    server.role.ok(&format!("close {far_2}"))?;
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    agree(
        &census,
        "ports",
        &expected([("time_wait child", 1), ("time_wait parent", 1)]),
    )
}

/// The connection under an MPTCP socket is closed by a worker of the kernel, on
/// behalf of the process that closed the socket.
fn mptcp(case: &mut Case) -> Result<()> {
    let space = space_of(case, 2)?;
    let role = case.role(&space, "server")?;
    let listener = role
        .ask("listener mptcp4 127.0.0.1:8080 64")?
        .parse::<i32>()?;
    if listener < 0 {
        return Err(Skip::because("this kernel has no MPTCP"));
    }
    let server = Server {
        role,
        listener,
        kind: "mptcp4",
        target: "127.0.0.1:8080",
    };
    let closer = case.role(&space, "mp-closer")?;
    for _ in 0..2 {
        server.visit(&space, &closer)?;
    }
    let victim = case.role(&space, "victim")?;
    let fd = victim.ok("socket tcp4")?;
    victim.fails(&format!("connect {fd} 127.0.0.1:8080"), libc::EADDRNOTAVAIL)?;
    case.expect(server.refusal(&space, &victim))?;
    let Some(census) = census::of(case, &space, "connect_failed", "ports_exhausted")? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("time_wait mp-closer", 2)]))
}

/// A port that was bound before it was connected is lost for every destination.
fn bound_elsewhere(case: &mut Case) -> Result<()> {
    let space = space_of(case, 4)?;
    let server = Server::v4(case, &space)?;
    Server::start(case, &space, "tcp4", "127.0.0.1:8081", "127.0.0.1:8081")?;
    let binder = case.role(&space, "binder")?;
    for port in 40000..40003 {
        let fd = binder.ok("socket tcp4")?;
        binder.ok(&format!("bind {fd} 127.0.0.1:{port}"))?;
        binder.ok(&format!("connect {fd} 127.0.0.1:8081"))?;
    }
    let user = case.role(&space, "user")?;
    server.connect(&user)?;
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    agree(
        &census,
        "ports",
        &expected([("bound_elsewhere binder", 3), ("established user", 1)]),
    )
}

/// Sockets that no table of older kernels lists.
fn hoarder(case: &mut Case) -> Result<()> {
    let space = space_of(case, 100)?;
    let server = Server::v4(case, &space)?;
    let hoarder = case.role(&space, "hoarder")?;
    for kind in ["tcp4", "tcp6"] {
        let address = if kind == "tcp4" {
            "127.0.0.1:0"
        } else {
            "[::]:0"
        };
        for _ in 0..50 {
            let fd = hoarder.ok(&format!("socket {kind}"))?;
            hoarder.ok(&format!("bind {fd} {address}"))?;
        }
    }
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("bound_unused hoarder", 100)]))?;
    ensure!(
        census["unexplained"] == 0 && census["bound_unused"]["reason"].is_null(),
        "something is left open: {census}"
    );
    Ok(())
}

/// A socket that was reset still shows a port, and has none.
fn reset(case: &mut Case) -> Result<()> {
    let space = space_of(case, 4)?;
    let server = Server::v4(case, &space)?;
    let user = case.role(&space, "was-reset")?;
    for _ in 0..4 {
        let (near, far) = server.connect(&user)?;
        server.role.ok(&format!("reset {far}"))?;
        user.ok(&format!("wait {near}"))?;
    }
    let keeper = case.role(&space, "keeper")?;
    for _ in 0..4 {
        server.connect(&keeper)?;
    }
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("established keeper", 4)]))
}

/// The socket's own range is what was searched.
fn own_range(case: &mut Case) -> Result<()> {
    let space = space_of(case, 100)?;
    let server = Server::v4(case, &space)?;
    let narrow = case.role(&space, "narrow")?;
    for attempt in 0..3 {
        let fd = narrow.ok("socket tcp4")?;
        if narrow.errno(&format!("own-range {fd} 40010 40011"))? != 0 {
            return Err(Skip::because("this kernel has no IP_LOCAL_PORT_RANGE"));
        }
        let connect = format!("connect {fd} 127.0.0.1:8080");
        if attempt < 2 {
            narrow.ok(&connect)?;
        } else {
            narrow.fails(&connect, libc::EADDRNOTAVAIL)?;
        }
    }
    case.expect(server.refusal(&space, &narrow))?;
    let Some(census) = census::of(case, &space, "connect_failed", "ports_exhausted")? else {
        return Ok(());
    };
    let range = &census["range"];
    ensure!(
        range["low"] == 40010 && range["high"] == 40011 && range["own"] == true,
        "another range: {census}"
    );
    agree(&census, "ports", &expected([("established narrow", 2)]))
}

fn reserved(case: &mut Case) -> Result<()> {
    let space = space_of(case, 6)?;
    space.sysctl(
        "net/ipv4/ip_local_reserved_ports",
        "40001-40002,40005,50000",
    )?;
    let server = Server::v4(case, &space)?;
    let keeper = case.role(&space, "keeper")?;
    for _ in 0..3 {
        server.connect(&keeper)?;
    }
    let Some(census) = server.exhausted(case, &space)? else {
        return Ok(());
    };
    ensure!(census["range"]["reserved"] == 3, "reserved ports: {census}");
    agree(&census, "ports", &expected([("established keeper", 3)]))
}

/// All ports are used by connections from this address; bind(address, 0) fails.
fn bind_exhausted(case: &mut Case) -> Result<()> {
    let space = space_of(case, 4)?;
    let server = Server::v4(case, &space)?;
    let keeper = case.role(&space, "keeper")?;
    for _ in 0..3 {
        server.connect(&keeper)?;
    }
    server.visit(&space, &keeper)?;
    let victim = case.role(&space, "victim")?;
    let fd = victim.ok("socket tcp4")?;
    victim.fails(&format!("bind {fd} 127.0.0.1:0"), libc::EADDRINUSE)?;
    case.expect(
        Expected::bind(space.inum, "ports_exhausted", "EADDRINUSE")
            .by(&victim)
            .local(&["127.0.0.1:0"]),
    )?;
    let Some(census) = census::of(case, &space, "bind_failed", "ports_exhausted")? else {
        return Ok(());
    };
    agree(
        &census,
        "ports",
        &expected([("established keeper", 3), ("time_wait keeper", 1)]),
    )
}

fn udp_exhausted(case: &mut Case) -> Result<()> {
    let space = space_of(case, 4)?;
    let owner = case.role(&space, "udp-owner")?;
    for _ in 0..4 {
        let fd = owner.ok("socket udp4")?;
        owner.ok(&format!("bind {fd} 0.0.0.0:0"))?;
    }
    let victim = case.role(&space, "victim")?;
    let fd = victim.ok("socket udp4")?;
    victim.fails(&format!("bind {fd} 127.0.0.1:0"), libc::EADDRINUSE)?;
    case.expect(
        Expected::bind(space.inum, "ports_exhausted", "EADDRINUSE")
            .by(&victim)
            .protocols(&["udp"])
            .local(&["127.0.0.1:0"]),
    )?;
    let Some(census) = census::of(case, &space, "bind_failed", "ports_exhausted")? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("bound_unused udp-owner", 4)]))
}

/// A server that closed its connections first leaves their `TIME_WAIT` on its port.
fn restart(case: &mut Case) -> Result<()> {
    let space = space_of(case, 20)?;
    let old = case.role(&space, "old-server")?;
    let listener = old.ok("listener tcp4 127.0.0.1:40010 16")?;
    let client = case.role(&space, "client")?;
    for _ in 0..3 {
        let near = client.ok("socket tcp4")?;
        client.ok(&format!("connect {near} 127.0.0.1:40010"))?;
        let far = old.ok(&format!("accept {listener}"))?;
        old.ok(&format!("close {far}"))?;
        client.ok(&format!("close {near}"))?;
    }
    old.kill();
    // A client's port that comes again ends the TIME_WAIT of its first use.
    let left = listed(&space, TIME_WAIT)?;
    ensure!(left > 0, "no TIME_WAIT sockets");
    let new = case.role(&space, "new-server")?;
    let fd = new.ok("socket tcp4")?;
    new.fails(&format!("bind {fd} 127.0.0.1:40010"), libc::EADDRINUSE)?;
    case.expect(
        Expected::bind(space.inum, "port_in_use", "EADDRINUSE")
            .by(&new)
            .local(&["127.0.0.1:40010"]),
    )?;
    let Some(census) = census::of(case, &space, "bind_failed", "port_in_use")? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("time_wait old-server", 1)]))?;
    agree(
        &census,
        "sockets",
        &expected([("time_wait old-server", left)]),
    )?;
    ensure!(
        census::pids(&census, "time_wait", "old-server") == [old.pid as u64],
        "another server: {census}"
    );
    Ok(())
}

fn taken(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let server = Server::v4(case, &space)?;
    let first = case.role(&space, "first")?;
    let second = case.role(&space, "second")?;
    let bound = |role: &Role| -> Result<i32> {
        let fd = role.ok("socket tcp4")?;
        role.ok(&format!("reuseaddr {fd}"))?;
        role.ok(&format!("bind {fd} 127.0.0.1:5000"))?;
        Ok(fd)
    };
    let (one, two) = (bound(&first)?, bound(&second)?);
    first.ok(&format!("connect {one} {}", server.target))?;
    let connect = format!("connect {two} {}", server.target);
    second.fails(&connect, libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::connect(space.inum, "address_taken")
            .by(&second)
            .local(&["127.0.0.1:5000"])
            .remote(&[server.target]),
    )?;
    let Some(census) = census::of(case, &space, "connect_failed", "address_taken")? else {
        return Ok(());
    };
    agree(&census, "ports", &expected([("established first", 1)]))
}

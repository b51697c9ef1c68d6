//! listen() that fails.

use anyhow::Result;

use crate::case::{Case, Scenario, scenario};
use crate::expect::Expected;

pub(crate) const ALL: &[Scenario] = &[
    scenario("listen/port-in-use", &["listen"], in_use),
    scenario("listen/ports-exhausted", &["listen"], exhausted),
];

/// Both sockets may be bound to the port, only one may listen.
fn in_use(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "127.0.0.1:8080");
    let mut sockets = Vec::new();
    for comm in ["first-listener", "second-listener"] {
        let role = case.role(&space, comm)?;
        let fd = role.ok("socket tcp4")?;
        role.ok(&format!("reuseaddr {fd}"))?;
        role.ok(&format!("bind {fd} {addr}"))?;
        sockets.push((role, format!("listen {fd} 8")));
    }
    let [(first, listen_first), (second, listen_second)] = &sockets[..] else {
        anyhow::bail!("two sockets were made");
    };
    first.ok(listen_first)?;
    second.fails(listen_second, libc::EADDRINUSE)?;
    case.expect(
        Expected::listen(space.inum, "port_in_use")
            .by(second)
            .local(&[addr]),
    )
}

/// listen() on a socket that was never bound needs a port too.
fn exhausted(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    space.four_ports()?;
    let owner = case.role(&space, "port-hoarder")?;
    for _ in 0..4 {
        let fd = owner.ok("socket tcp4")?;
        owner.ok(&format!("bind {fd} 0.0.0.0:0"))?;
    }
    let role = case.role(&space, "unbound-server")?;
    let fd = role.ok("socket tcp4")?;
    role.fails(&format!("listen {fd} 8"), libc::EADDRINUSE)?;
    case.expect(
        Expected::listen(space.inum, "ports_exhausted")
            .by(&role)
            .local(&["0.0.0.0:0"]),
    )
}

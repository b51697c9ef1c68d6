//! bind() that fails.

use std::rc::Rc;

use anyhow::Result;

use crate::case::{Case, Scenario, scenario};
use crate::expect::Expected;
use crate::netns::Namespace;
use crate::role::Role;

pub(crate) const ALL: &[Scenario] = &[
    scenario("bind/not-local-v4", &["bind"], not_local_v4),
    scenario("bind/not-local-v6", &["bind"], not_local_v6),
    scenario("bind/not-local-v4-mapped", &["bind"], not_local_mapped),
    scenario("bind/port-in-use-v4", &["bind"], in_use_v4),
    scenario("bind/port-in-use-v6", &["bind"], in_use_v6),
    scenario("bind/port-in-use-udp", &["bind"], in_use_udp),
    scenario("bind/ports-exhausted", &["bind"], exhausted),
    scenario("bind/ports-exhausted-udp", &["bind"], exhausted_udp),
];

/// One failing bind by a process of its own.
fn fail(
    case: &mut Case,
    space: &Namespace,
    kind: &str,
    addr: &str,
    errno: i32,
) -> Result<Rc<Role>> {
    let binder = case.role(space, "hopeful-binder")?;
    let fd = binder.ok(&format!("socket {kind}"))?;
    binder.fails(&format!("bind {fd} {addr}"), errno)?;
    Ok(binder)
}

fn not_local_v4(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "192.0.2.1:8080");
    let binder = fail(case, &space, "tcp4", addr, libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::bind(space.inum, "address_not_local", "EADDRNOTAVAIL")
            .by(&binder)
            .local(&[addr]),
    )
}

fn not_local_v6(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "[2001:db8::1]:8080");
    let binder = fail(case, &space, "tcp6", addr, libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::bind(space.inum, "address_not_local", "EADDRNOTAVAIL")
            .by(&binder)
            .v6()
            .local(&[addr]),
    )
}

fn not_local_mapped(case: &mut Case) -> Result<()> {
    let (space, addr) = (case.space()?, "[::ffff:192.0.2.1]:8080");
    let binder = fail(case, &space, "tcp6", addr, libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::bind(space.inum, "address_not_local", "EADDRNOTAVAIL")
            .by(&binder)
            .local(&["192.0.2.1:8080"]),
    )
}

fn in_use(case: &mut Case, kind: &str, addr: &str) -> Result<Expected> {
    let space = case.space()?;
    let owner = case.role(&space, "port-owner")?;
    let fd = owner.ok(&format!("socket {kind}"))?;
    owner.ok(&format!("bind {fd} {addr}"))?;
    let binder = fail(case, &space, kind, addr, libc::EADDRINUSE)?;
    Ok(Expected::bind(space.inum, "port_in_use", "EADDRINUSE")
        .by(&binder)
        .local(&[addr]))
}

fn in_use_v4(case: &mut Case) -> Result<()> {
    let expected = in_use(case, "tcp4", "127.0.0.1:8080")?;
    case.expect(expected)
}

fn in_use_v6(case: &mut Case) -> Result<()> {
    let expected = in_use(case, "tcp6", "[::1]:8080")?;
    case.expect(expected.v6())
}

fn in_use_udp(case: &mut Case) -> Result<()> {
    let expected = in_use(case, "udp4", "127.0.0.1:5353")?;
    case.expect(expected.protocols(&["udp"]))
}

/// The four ports are bound, a fifth bind(address, 0) finds none.
fn exhaust(case: &mut Case, kind: &str) -> Result<Expected> {
    let (space, addr) = (case.space()?, "127.0.0.1:0");
    space.four_ports()?;
    let owner = case.role(&space, "port-hoarder")?;
    for _ in 0..4 {
        let fd = owner.ok(&format!("socket {kind}"))?;
        owner.ok(&format!("bind {fd} {addr}"))?;
    }
    let binder = fail(case, &space, kind, addr, libc::EADDRINUSE)?;
    Ok(Expected::bind(space.inum, "ports_exhausted", "EADDRINUSE")
        .by(&binder)
        .local(&[addr]))
}

fn exhausted(case: &mut Case) -> Result<()> {
    let expected = exhaust(case, "tcp4")?;
    case.expect(expected)
}

fn exhausted_udp(case: &mut Case) -> Result<()> {
    let expected = exhaust(case, "udp4")?;
    case.expect(expected.protocols(&["udp"]))
}

//! connect() that finds no address: each cause.

use anyhow::{Context as _, Result, ensure};

use crate::bpf;
use crate::case::{Case, Scenario, Skip, scenario};
use crate::cgroup::Group;
use crate::expect::Expected;
use crate::netns::{self, Namespace};
use crate::role::Role;
use crate::tun::{self, Tun};

pub(crate) const ALL: &[Scenario] = &[
    scenario("connect/ports-exhausted-v4", &["connect"], exhausted_v4),
    scenario("connect/ports-exhausted-v6", &["connect"], exhausted_v6),
    scenario(
        "connect/ports-exhausted-v4-mapped",
        &["connect"],
        exhausted_mapped,
    ),
    scenario("connect/address-taken-v4", &["connect"], taken_v4),
    scenario("connect/address-taken-v6", &["connect"], taken_v6),
    scenario(
        "connect/address-taken-after-bind-0",
        &["connect"],
        taken_after_bind_0,
    ),
    scenario(
        "connect/no-source-address-v6",
        &["connect_v6_source"],
        no_source,
    ),
    scenario("connect/refused-by-policy", &["connect_policy"], refused),
];

/// Six connects over four ports: four succeed, two find none.
fn exhausted(case: &mut Case, kind: &str, target: &str, server: &str, local: &str) -> Result<()> {
    let v6 = server.starts_with('[');
    let space = case.space()?;
    space.four_ports()?;
    let listener = case.role(&space, "server")?;
    let family = if v6 { "tcp6" } else { "tcp4" };
    listener.ok(&format!("listener {family} {server} 64"))?;
    let greedy = case.role(&space, "greedy-client")?;
    let connects = greedy.connects(kind, 6, target)?;
    ensure!(
        connects.begun.len() == 4 && connects.failed == [libc::EADDRNOTAVAIL; 2],
        "expected 4 connects and 2 EADDRNOTAVAIL, got {connects:?}"
    );
    let expected = Expected::connect(space.inum, "ports_exhausted")
        .times(2)
        .by(&greedy)
        .local(&[local])
        .remote(&[server]);
    case.expect(if v6 { expected.v6() } else { expected })
}

fn exhausted_v4(case: &mut Case) -> Result<()> {
    let server = "127.0.0.1:8080";
    exhausted(case, "tcp4", server, server, "127.0.0.1:0")
}

fn exhausted_v6(case: &mut Case) -> Result<()> {
    let server = "[::1]:8080";
    exhausted(case, "tcp6", server, server, "[::1]:0")
}

fn exhausted_mapped(case: &mut Case) -> Result<()> {
    let (target, server) = ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080");
    exhausted(case, "tcp6", target, server, "127.0.0.1:0")
}

/// A socket that may share its address, bound to it.
fn sharing(role: &Role, kind: &str, addr: &str) -> Result<i32> {
    let fd = role.ok(&format!("socket {kind}"))?;
    role.ok(&format!("reuseaddr {fd}"))?;
    role.ok(&format!("bind {fd} {addr}"))?;
    Ok(fd)
}

/// Two sockets with one local address and one destination.
fn taken(case: &mut Case, kind: &str, local: &str, server: &str) -> Result<Expected> {
    let space = case.space()?;
    let listener = case.role(&space, "server")?;
    listener.ok(&format!("listener {kind} {server} 64"))?;
    let client = case.role(&space, "clashing-client")?;
    let first = sharing(&client, kind, local)?;
    let second = sharing(&client, kind, local)?;
    client.ok(&format!("connect {first} {server}"))?;
    client.fails(&format!("connect {second} {server}"), libc::EADDRNOTAVAIL)?;
    Ok(Expected::connect(space.inum, "address_taken")
        .by(&client)
        .local(&[local])
        .remote(&[server]))
}

fn taken_v4(case: &mut Case) -> Result<()> {
    let expected = taken(case, "tcp4", "127.0.0.1:5000", "127.0.0.1:8080")?;
    case.expect(expected)
}

fn taken_v6(case: &mut Case) -> Result<()> {
    let expected = taken(case, "tcp6", "[::1]:5000", "[::1]:8080")?;
    case.expect(expected.v6())
}

/// The socket that fails got its port from bind(address, 0): the kernel forgets such
/// a port when connect() fails, and it must be named nevertheless.
fn taken_after_bind_0(case: &mut Case) -> Result<()> {
    let server = "127.0.0.1:8080";
    let space = case.space()?;
    let listener = case.role(&space, "server")?;
    listener.ok(&format!("listener tcp4 {server} 64"))?;
    let client = case.role(&space, "bind-0-client")?;
    let late = sharing(&client, "tcp4", "127.0.0.1:0")?;
    let local = client.ask(&format!("name {late}"))?;
    let early = sharing(&client, "tcp4", &local)?;
    client.ok(&format!("connect {early} {server}"))?;
    client.fails(&format!("connect {late} {server}"), libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::connect(space.inum, "address_taken")
            .by(&client)
            .local(&[&local])
            .remote(&[server]),
    )
}

/// A namespace with an IPv6 route and no IPv6 address at all.
fn without_addresses(space: &Namespace) -> Result<Tun> {
    let tun = Tun::new(space)?;
    space.sysctl(&format!("net/ipv6/conf/{}/addr_gen_mode", tun::NAME), "1")?;
    space.sysctl("net/ipv6/conf/lo/disable_ipv6", "1")?;
    space.run(|| {
        netns::set_up(tun::NAME)?;
        netns::default_route_v6(tun::NAME)
    })?;
    Ok(tun)
}

fn no_source(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let _tun = without_addresses(&space)?;
    let client = case.role(&space, "homeless-client")?;
    let fd = client.ok("socket tcp6")?;
    client.ok(&format!("nonblock {fd}"))?;
    let server = "[2001:db8::1]:8080";
    client.fails(&format!("connect {fd} {server}"), libc::EADDRNOTAVAIL)?;
    case.expect(
        Expected::connect(space.inum, "no_source_address")
            .by(&client)
            .v6()
            .remote(&[server]),
    )
}

fn refused(case: &mut Case) -> Result<()> {
    let program = match bpf::load_refusal(libc::EADDRNOTAVAIL) {
        Ok(program) => program,
        // 5.10 has no helper that sets an errno.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(Skip::because("this kernel lacks bpf_set_retval"));
        }
        Err(error) => return Err(error).context("loading the policy program"),
    };
    let group = Group::new(&format!("tracer-live-{}", std::process::id()))?;
    let directory = std::fs::File::open(&group.0)?;
    bpf::attach_refusal(&program, &directory).context("attaching the policy program")?;
    let space = case.space()?;
    let client = case.role(&space, "policy-victim")?;
    group.join(&client)?;
    let fd = client.ok("socket tcp4")?;
    let server = "127.0.0.1:8080";
    client.fails(&format!("connect {fd} {server}"), libc::EADDRNOTAVAIL)?;
    let told = case.expect(
        Expected::connect(space.inum, "refused_by_policy")
            .by(&client)
            .remote(&[server]),
    );
    // The cgroup can only be removed when it is empty.
    client.kill();
    told
}

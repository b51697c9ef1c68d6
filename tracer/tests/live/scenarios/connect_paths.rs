//! The same failure (no port is left) by every way into the kernel, and by every
//! kind of process.

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Scenario, Skip, scenario};
use crate::expect::Expected;
use crate::netns::Namespace;
use crate::role::Role;

const SERVER: &str = "127.0.0.1:8080";

pub(crate) const ALL: &[Scenario] = &[
    scenario("connect/io-uring", &["connect"], io_uring),
    scenario("connect/fast-open", &["connect"], fast_open),
    scenario("connect/mptcp", &["connect"], mptcp),
    scenario("connect/process-gone-at-once", &["connect"], gone),
    scenario("connect/threads", &["connect"], threads),
    scenario("connect/socket-used-again", &["connect"], used_again),
];

/// A namespace whose four ports towards `SERVER` are all in use.
fn used_up(case: &mut Case) -> Result<std::rc::Rc<Namespace>> {
    let space = case.space()?;
    space.four_ports()?;
    let listener = case.role(&space, "server")?;
    listener.ok(&format!("listener tcp4 {SERVER} 64"))?;
    let greedy = case.role(&space, "greedy-client")?;
    let connects = greedy.connects("tcp4", 4, SERVER)?;
    ensure!(connects.begun.len() == 4, "expected 4 ports: {connects:?}");
    Ok(space)
}

fn no_port(space: &Namespace, role: &Role) -> Expected {
    Expected::connect(space.inum, "ports_exhausted")
        .by(role)
        .local(&["127.0.0.1:0"])
        .remote(&[SERVER])
}

fn io_uring(case: &mut Case) -> Result<()> {
    let space = used_up(case)?;
    let client = case.role(&space, "uring-client")?;
    let fd = client.ok("socket tcp4")?;
    match client.errno(&format!("ring-connect {fd} {SERVER}"))? {
        libc::EADDRNOTAVAIL => case.expect(no_port(&space, &client)),
        libc::ENOSYS | libc::EPERM => Err(Skip::because("io_uring is switched off")),
        errno => anyhow::bail!("IORING_OP_CONNECT: expected EADDRNOTAVAIL, got errno {errno}"),
    }
}

fn fast_open(case: &mut Case) -> Result<()> {
    let space = used_up(case)?;
    let client = case.role(&space, "fastopen-client")?;
    let fd = client.ok("socket tcp4")?;
    client.fails(&format!("fast-open {fd} {SERVER}"), libc::EADDRNOTAVAIL)?;
    case.expect(no_port(&space, &client))
}

fn mptcp(case: &mut Case) -> Result<()> {
    let space = used_up(case)?;
    let client = case.role(&space, "mptcp-client")?;
    let fd: i32 = client.ask("socket mptcp4")?.parse()?;
    if matches!(
        -fd,
        libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EINVAL
    ) {
        return Err(Skip::because("this kernel has no MPTCP"));
    }
    ensure!(fd >= 0, "socket(IPPROTO_MPTCP): errno {}", -fd);
    client.fails(&format!("connect {fd} {SERVER}"), libc::EADDRNOTAVAIL)?;
    case.expect(no_port(&space, &client).protocols(&["tcp", "mptcp"]))
}

fn gone(case: &mut Case) -> Result<()> {
    let space = used_up(case)?;
    let parent = case.role(&space, "parent")?;
    for comm in ["vanisher-1", "vanisher-2"] {
        let (pid, errno) = pair(&parent.ask(&format!("vanish {comm} tcp4 {SERVER}"))?)?;
        ensure!(errno == libc::EADDRNOTAVAIL, "{comm}: errno {errno}");
        case.expect(
            Expected::connect(space.inum, "ports_exhausted")
                .by_name(pid, comm)
                .local(&["127.0.0.1:0"])
                .remote(&[SERVER]),
        )?;
    }
    Ok(())
}

/// The thread has a name of its own, the process is called by its leader's.
fn threads(case: &mut Case) -> Result<()> {
    let space = used_up(case)?;
    let leader = case.role(&space, "thread-leader")?;
    for comm in ["worker-a", "worker-b"] {
        let (tid, errno) = pair(&leader.ask(&format!("thread {comm} tcp4 {SERVER}"))?)?;
        ensure!(errno == libc::EADDRNOTAVAIL, "{comm}: errno {errno}");
        ensure!(tid != leader.pid, "the thread is the leader");
        case.expect(no_port(&space, &leader).thread(tid))?;
    }
    Ok(())
}

fn pair(reply: &str) -> Result<(i32, i32)> {
    let (id, errno) = reply.split_once(' ').context("expected `id errno`")?;
    Ok((id.parse()?, errno.parse()?))
}

/// A socket that was connected before keeps its old port number in places where a
/// tracer might look.
fn used_again(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    space.four_ports()?;
    let listener = case.role(&space, "server")?;
    listener.ok(&format!("listener tcp4 {SERVER} 64"))?;
    let client = case.role(&space, "reusing-client")?;
    let fd = client.ok("socket tcp4")?;
    client.ok(&format!("connect {fd} {SERVER}"))?;
    client.ok(&format!("disconnect {fd}"))?;
    let greedy = case.role(&space, "greedy-client")?;
    let connects = greedy.connects("tcp4", 4, SERVER)?;
    ensure!(connects.begun.len() == 4, "expected 4 ports: {connects:?}");
    client.fails(&format!("connect {fd} {SERVER}"), libc::EADDRNOTAVAIL)?;
    case.expect(no_port(&space, &client))
}

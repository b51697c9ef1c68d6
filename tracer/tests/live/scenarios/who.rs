//! Who is responsible for a listener: never the process that happens to run.

use anyhow::{Context as _, Result, ensure};

use super::queue::{self, TOO_MANY};
use crate::case::{self, Case, Scenario, scenario};
use crate::counters::Counters;
use crate::expect::Expected;
use crate::tracer::Tracer;
use crate::verdict;

const ADDR: &str = "127.0.0.1:8080";
const NEEDS: &[&str] = &["syn_drop", "listener"];

pub(crate) const ALL: &[Scenario] = &[
    scenario("who/reuseport-one-stuck", NEEDS, one_stuck),
    scenario(
        "who/prefork",
        &["syn_drop", "listener", "acceptor"],
        prefork,
    ),
    scenario("who/creator-has-exited", NEEDS, inherited),
    Scenario {
        name: "who/listener-older-than-tracer",
        needs: NEEDS,
        prepare: Some(make_old),
        run: older,
    },
    scenario("who/passed-descriptor", NEEDS, passed),
    scenario("who/killed-after-overflow", NEEDS, killed),
    scenario("who/creator-pid-used-again", NEEDS, creator_pid_used_again),
    scenario(
        "who/killed-and-pid-used-again",
        NEEDS,
        killed_pid_used_again,
    ),
    scenario("who/two-tracers", &["syn_drop", "connect"], two_tracers),
];

/// Three workers share a port; the one that has a short queue overflows, the others
/// have room for everybody.
fn one_stuck(case: &mut Case) -> Result<()> {
    const MANY: usize = 60;
    let space = case.space()?;
    let stuck = case.role(&space, "worker-stuck")?;
    stuck.ok(&format!("group-listener tcp4 {ADDR} 2"))?;
    let mut others = Vec::new();
    for comm in ["worker-fine-1", "worker-fine-2"] {
        let role = case.role(&space, comm)?;
        let fd = role.ok(&format!("group-listener tcp4 {ADDR} 128"))?;
        others.push((role, fd));
    }
    let client = case.role(&space, "innocent")?;
    let begun = queue::one_by_one(&space, &client, "tcp4", MANY, ADDR)?;
    for (role, fd) in &others {
        role.ok(&format!("accept {fd}"))?;
    }
    let now = Counters::await_in(&space, "an overflow", |now| now.listen_overflows > 0)?;
    case.expect(
        Expected::drop(space.inum, "syn_dropped", "accept_queue_full")
            .at_least(usize::try_from(now.listen_overflows)?)
            .by(&stuck)
            .local(&[ADDR])
            .remote(&begun)
            .accept_queue(3, 2),
    )
}

/// All three hold the listener; the one that accepts is responsible.
fn prefork(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let parent = case.role(&space, "prefork-master")?;
    let fd = parent.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let worker = case.fork(&parent, "prefork-busy")?;
    let idle = case.fork(&parent, "prefork-idle")?;
    let client = case.role(&space, "innocent")?;
    client.connects("tcp4", 1, ADDR)?;
    worker.ok(&format!("accept {fd}"))?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    case.expect(
        queue::queue_full(&space, &worker, &dropped)
            .held_by(&[&parent, &worker, &idle])
            .role(&["acceptor"])
            .local(&[ADDR]),
    )
}

/// The process that called listen() is gone, its child has the socket.
fn inherited(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let creator = case.role(&space, "gone-creator")?;
    creator.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let heir = case.fork(&creator, "heir")?;
    creator.kill();
    let client = case.role(&space, "innocent")?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    case.expect(queue::queue_full(&space, &heir, &dropped).local(&[ADDR]))
}

fn make_old(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let server = case.role(&space, "old-server")?;
    server.ok(&format!("listener tcp4 {ADDR} 2"))?;
    case.prepared = Some((space, server));
    Ok(())
}

fn older(case: &mut Case) -> Result<()> {
    let (space, server) = case.prepared.clone().context("nothing was prepared")?;
    let client = case.role(&space, "innocent")?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    case.expect(queue::queue_full(&space, &server, &dropped).local(&[ADDR]))
}

/// As a service manager does it: one process listens, another gets the descriptor.
fn passed(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let manager = case.role(&space, "manager")?;
    let fd = manager.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let service = case.role(&space, "service")?;
    service.ok(&format!("take {} {fd}", manager.pid))?;
    manager.ok(&format!("close {fd}"))?;
    let client = case.role(&space, "innocent")?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    case.expect(queue::queue_full(&space, &service, &dropped).local(&[ADDR]))
}

/// The pid of the process that called listen() belongs to a stranger now.
fn creator_pid_used_again(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let creator = case.role(&space, "gone-creator")?;
    creator.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let heir = case.fork(&creator, "heir")?;
    creator.kill();
    case.impostor(&space, &creator)?;
    let client = case.role(&space, "innocent")?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    case.expect(queue::queue_full(&space, &heir, &dropped).local(&[ADDR]))
}

/// Nobody can look the process up any more when the event is read.
fn killed(case: &mut Case) -> Result<()> {
    overflow_and_end(case, false)
}

/// Who looks the pid up finds a stranger.
fn killed_pid_used_again(case: &mut Case) -> Result<()> {
    overflow_and_end(case, true)
}

fn overflow_and_end(case: &mut Case, pid_used_again: bool) -> Result<()> {
    let space = case.space()?;
    let server = case.role(&space, "short-lived")?;
    server.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let client = case.role(&space, "innocent")?;
    let dropped = queue::overrun(&space, &client, "tcp4", ADDR)?;
    server.kill();
    if pid_used_again {
        case.impostor(&space, &server)?;
    }
    case.expect(
        Expected::drop(space.inum, "syn_dropped", "accept_queue_full")
            .at_least(TOO_MANY)
            .by_name(server.pid, &server.comm)
            .local(&[ADDR])
            .remote(&dropped)
            .accept_queue(3, 2),
    )
}

/// Two tracers at once do not disturb each other.
fn two_tracers(case: &mut Case) -> Result<()> {
    let second = match &case.tracer {
        Some(_) => {
            let (path, tier) = &case.another;
            Some(Tracer::started(path, &["--no-verify", "--hooks", tier])?)
        }
        None => None,
    };
    let space = case.space()?;
    space.four_ports()?;
    let server = case.role(&space, "stuck-server")?;
    let client = case.role(&space, "innocent")?;
    server.ok("listener tcp4 127.0.0.1:8081 64")?;
    let connects = client.connects("tcp4", 5, "127.0.0.1:8081")?;
    ensure!(connects.failed == [libc::EADDRNOTAVAIL], "{connects:?}");
    // Another destination: the same four ports serve again, one SYN is dropped.
    server.ok(&format!("listener tcp4 {ADDR} 2"))?;
    let begun = queue::one_by_one(&space, &client, "tcp4", 4, ADDR)?;
    case.expect(
        Expected::connect(space.inum, "ports_exhausted")
            .by(&client)
            .local(&["127.0.0.1:0"])
            .remote(&["127.0.0.1:8081"]),
    )?;
    case.expect(
        queue::queue_full(&space, &server, &begun[3..])
            .at_least(1)
            .local(&[ADDR]),
    )?;
    if let Some(second) = second {
        for expected in &case.expected {
            case::await_in(&second, expected).context("the second tracer")?;
        }
        case.end_traffic();
        second.stop().context("the second tracer")?;
        verdict::judge(case, &second).context("the second tracer")?;
    }
    Ok(())
}

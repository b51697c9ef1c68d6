//! What tracer finds out about a queue: what listen() asked for, who accepts, who was
//! hit, and which clients only believe they are connected.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::ack;
use super::queue::{TOO_MANY, overrun, queue_full};
use crate::case::{Case, Scenario, scenario};
use crate::expect::Expected;
use crate::netns::Namespace;

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

pub(crate) const ALL: &[Scenario] = &[
    scenario("finding/backlog", &["syn_drop", "listener"], backlog),
    scenario("finding/somaxconn", &["syn_drop", "listener"], somaxconn),
    // An accept makes room for a SYN whose last ACK may find none.
    scenario(
        "finding/accepts",
        &["syn_drop", "ack_drop", "acceptor"],
        accepts,
    ),
    scenario(
        "finding/accept-fails",
        &["syn_drop", "accept_failure"],
        accept_fails,
    ),
    scenario("finding/ghosts", &["ack_drop"], |case| {
        ghosts(case, &ack::plan(V4, 0, false), TOO_MANY as u64)
    }),
    scenario("finding/ghosts-of-cookies-v6", &["ack_drop"], |case| {
        ghosts(case, &ack::plan(V6, 2, false), TOO_MANY as u64)
    }),
    scenario(
        "finding/a-reset-leaves-no-ghost",
        &["overflow_reset"],
        |case| ghosts(case, &ack::plan(V4, 0, true), 0),
    ),
];

/// The first finding in `space` that `wanted` likes.
fn of(case: &Case, space: &Namespace, wanted: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
    let Some(tracer) = &case.tracer else {
        return Ok(None);
    };
    let is_it = |record: &Value| {
        record["type"] == "queue" && record["netns"] == space.inum && wanted(record)
    };
    tracer.await_record(is_it).map(Some)
}

/// Eight clients for a listener with room for three: the finding about them.
fn stuck(case: &mut Case, asked: i32, somaxconn: i32) -> Result<()> {
    let space = case.space()?;
    space.sysctl("net/core/somaxconn", &somaxconn.to_string())?;
    let server = case.role(&space, "stuck-server")?;
    let listener = server.ok(&format!("listener tcp4 127.0.0.1:8080 {asked}"))?;
    let client = case.role(&space, "innocent")?;
    // What was in force at listen() counts.
    space.sysctl("net/core/somaxconn", "77")?;
    let dropped = overrun(&space, &client, "tcp4", "127.0.0.1:8080")?;
    case.expect(queue_full(&space, &server, &dropped))?;
    let Some(finding) = of(case, &space, |_| true)? else {
        return Ok(());
    };
    server.ok(&format!("close {listener}"))?;
    let queue = &finding["accept_queue"];
    ensure!(
        queue["len"] == 3 && queue["max"] == 2,
        "another queue: {finding}"
    );
    let is_told = if lets_programs_read_arguments()? {
        queue["asked"] == asked && queue["somaxconn"] == somaxconn
    } else {
        queue["asked"].is_null()
    };
    ensure!(
        is_told,
        "listen({asked}) under somaxconn {somaxconn}: {finding}"
    );
    ensure!(
        finding["connections"] == TOO_MANY as u64,
        "{TOO_MANY} clients were hit: {finding}"
    );
    let drops = finding["drops"]["syn_dropped"].as_u64();
    ensure!(drops >= Some(TOO_MANY as u64), "drops: {finding}");
    ensure!(
        finding["sysctls"]["somaxconn"] == 77,
        "settings now: {finding}"
    );
    ensure!(
        finding["process"]["comm"] == "stuck-server",
        "who: {finding}"
    );
    Ok(())
}

/// Whether this kernel lets programs read the arguments of a syscall.
fn lets_programs_read_arguments() -> Result<bool> {
    let symbols = std::fs::read_to_string("/proc/kallsyms").context("/proc/kallsyms")?;
    Ok(symbols.contains("bpf_task_pt_regs"))
}

fn backlog(case: &mut Case) -> Result<()> {
    stuck(case, 2, 128)
}

fn somaxconn(case: &mut Case) -> Result<()> {
    stuck(case, 128, 2)
}

/// The server accepts after a while: accepts are counted.
fn accepts(case: &mut Case) -> Result<()> {
    let space = case.space()?;
    let server = case.role(&space, "slow-server")?;
    let listener = server.ok("listener tcp4 127.0.0.1:8080 2")?;
    let client = case.role(&space, "innocent")?;
    let dropped = overrun(&space, &client, "tcp4", "127.0.0.1:8080")?;
    case.expect(queue_full(&space, &server, &dropped))?;
    for _ in 0..2 {
        server.ok(&format!("accept {listener}"))?;
    }
    // Then there may be room for a SYN, and none any more for its last ACK.
    let too_late = Expected::drop(space.inum, "ack_dropped", "accept_queue_full");
    case.expect(too_late.at_least(0).by(&server).remote(&dropped))?;
    // Those who try again find the queue full once more, sooner or later.
    let finding = of(case, &space, |finding| {
        finding["accepts"].as_u64() >= Some(2)
    })?;
    let Some(finding) = finding else {
        return Ok(());
    };
    let rate = finding["accepts_per_s"].as_f64();
    ensure!(rate.is_none_or(|rate| rate > 0.0), "accepts: {finding}");
    Ok(())
}

/// A server without a free descriptor: nothing is accepted, however often it tries.
fn accept_fails(case: &mut Case) -> Result<()> {
    const CALLS: u64 = 7;
    let space = case.space()?;
    let server = case.role(&space, "full-server")?;
    let listener = server.ok("listener tcp4 127.0.0.1:8080 2")?;
    let client = case.role(&space, "innocent")?;
    let dropped = overrun(&space, &client, "tcp4", "127.0.0.1:8080")?;
    case.expect(queue_full(&space, &server, &dropped))?;
    // Those that it has keep its standard streams.
    server.ok("files 3")?;
    for _ in 0..CALLS {
        server.fails(&format!("accept {listener}"), libc::EMFILE)?;
    }
    let finding = of(case, &space, |finding| {
        finding["accept_failures"].as_u64() >= Some(CALLS)
    })?;
    let Some(finding) = finding else {
        return Ok(());
    };
    let texts = finding["advice"].as_array().into_iter().flatten();
    let advice: Vec<_> = texts.filter_map(|it| it["id"].as_str()).collect();
    ensure!(
        finding["accept_failures"] == CALLS
            && finding["accept_errno"] == "EMFILE"
            && finding["accepts"].as_u64().unwrap_or(0) == 0
            && advice == ["accept-fails"],
        "{advice:?}: {finding}"
    );
    Ok(())
}

/// Handshakes whose last segment is dropped leave clients that wait.
fn ghosts(case: &mut Case, plan: &ack::Plan, wanted: u64) -> Result<()> {
    ack::run(case, plan)?;
    let space = case.spaces.first().context("no namespace")?.clone();
    let Some(finding) = of(case, &space, |_| true)? else {
        return Ok(());
    };
    ensure!(
        finding["ghosts"]["count"] == wanted,
        "{wanted} ghosts: {finding}"
    );
    Ok(())
}

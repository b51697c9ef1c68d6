//! `--metrics`: what a scrape tells of failures, listeners and ports that are real.

pub(crate) mod crowd;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cli::{NOWHERE, fail_once, refuses};
use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::{self, Tracer};
use crate::{cli::Desert, limits};

/// A name that would end a label and a line, and that a terminal would act on.
const HOSTILE: &str = "a\"}\n\x1b[2J\\";
const SHOWN: &str = r#"process="a\"}\\x0a\\x1b[2J\\\\""#;

/// Where a tracer says that it serves its metrics.
fn address(tracer: &Tracer) -> Result<String> {
    let end = Instant::now() + limits::event();
    loop {
        let said = tracer.stderr();
        let address = said
            .split_once("http://")
            .and_then(|(_, rest)| rest.split_once("/metrics\n"));
        if let Some((address, _)) = address {
            return Ok(address.to_owned());
        }
        ensure!(Instant::now() < end, "no address was told: {said}");
        std::thread::yield_now();
    }
}

/// The body of an answer.
fn scrape(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limits::event()))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.to_owned())
}

/// The value of the sample with this name and all these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let has_all = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let line = text.lines().find(has_all)?;
    line.rsplit_once(' ')?.1.parse().ok()
}

pub(crate) fn expect(text: &str, name: &str, labels: &[&str], expected: f64) -> Result<()> {
    let found = value(text, name, labels);
    ensure!(
        found == Some(expected),
        "{name} {labels:?}: {found:?}, not {expected}: {text}"
    );
    Ok(())
}

/// Scrapes until the sample has this value: who traces may be a moment behind.
pub(crate) fn await_value(
    address: &str,
    name: &str,
    labels: &[&str],
    expected: f64,
) -> Result<String> {
    let end = Instant::now() + limits::event();
    loop {
        let text = scrape(address)?;
        if value(&text, name, labels) == Some(expected) || Instant::now() > end {
            expect(&text, name, labels, expected)?;
            return Ok(text);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn all(path: &Path) -> Result<()> {
    let tracer = Tracer::started(path, &["--metrics", "127.0.0.1:0"])?;
    let address = address(&tracer)?;
    queues_and_ports(&address)?;
    failures(&tracer, &address)?;
    // The same address a second time.
    let mut second = tracer::command(path);
    second.args(["--metrics", &address]);
    let why = refuses(&mut second, 1, true)?;
    ensure!(why.contains(&address), "{why}");
    for wrong in [":9435", "localhost:9435", "99999"] {
        refuses(tracer::command(path).args(["--metrics", wrong]), 2, true)?;
    }
    // An answer serves for a second.
    std::thread::sleep(Duration::from_millis(1100));
    agrees(&scrape(&address)?, &tracer.stop()?)
}

fn failures(tracer: &Tracer, address: &str) -> Result<()> {
    let desert = Desert::new()?;
    let (one, other) = (desert.role("metrics-one")?, desert.role(HOSTILE)?);
    for _ in 0..3 {
        fail_once(&one)?;
    }
    fail_once(&other)?;
    tracer.await_events(desert.space.inum, |events| events.len() == 4);
    let kind = [
        r#"kind="connect_failed""#,
        r#"cause="ports_exhausted""#,
        r#"process="metrics-one""#,
    ];
    let described = "tracer_failures_described_total";
    let text = await_value(address, described, &kind, 3.0)?;
    expect(&text, described, &[SHOWN], 1.0)?;
    let counted = value(&text, "tracer_failures_total", &kind[..2]);
    ensure!(counted >= Some(4.0), "{counted:?} were counted: {NOWHERE}");
    Ok(())
}

/// Ten ports, of which a listener has one and two connections that nobody accepts
/// have two.
fn queues_and_ports(address: &str) -> Result<()> {
    let space = Namespace::new()?;
    space.sysctl("net/ipv4/ip_local_port_range", "40000 40009")?;
    let role = Role::start(&space, "metrics-server")?;
    role.ok("listener tcp4 127.0.0.1:40009 5")?;
    for _ in 0..2 {
        let fd = role.ok("socket tcp4")?;
        role.ok(&format!("connect {fd} 127.0.0.1:40009"))?;
    }
    let netns = format!("netns=\"{}\"", space.inum);
    let queue = [
        &*netns,
        r#"local="127.0.0.1:40009""#,
        r#"process="metrics-server""#,
    ];
    let towards = [&*netns, r#"destination="127.0.0.1:40009""#];
    let used = "tracer_ephemeral_ports_destination_used";
    // The first scrape: what it sees is told for half a minute.
    let text = scrape(address)?;
    expect(&text, "tracer_up", &[], 1.0)?;
    expect(&text, used, &towards, 3.0)?;
    expect(&text, "tracer_ephemeral_ports_usable", &[&netns], 10.0)?;
    expect(&text, "tracer_ephemeral_ports_used", &[&netns], 3.0)?;
    expect(&text, "tracer_listener_accept_queue_length", &queue, 2.0)?;
    expect(&text, "tracer_listener_accept_queue_limit", &queue, 5.0)
}

/// The last scrape and the final totals say the same of each kind and cause.
fn agrees(text: &str, records: &[Value]) -> Result<()> {
    let totals = tracer::final_totals(records)?;
    let name = |count: &Value, name: &str| {
        format!("{name}=\"{}\"", count[name].as_str().unwrap_or_default())
    };
    let counts = totals["counts"].as_array().context("no counts")?;
    for count in counts {
        let labels = [name(count, "kind"), name(count, "cause")];
        let alike = |other: &&Value| {
            ["kind", "cause"]
                .iter()
                .all(|key| other[*key] == count[*key])
        };
        let sum: u64 = counts
            .iter()
            .filter(alike)
            .filter_map(|other| other["count"].as_u64())
            .sum();
        let scraped = value(text, "tracer_failures_total", &[&labels[0], &labels[1]]);
        // Others on this machine may fail in between.
        ensure!(
            scraped > Some(0.0) && scraped <= Some(f64::from(u32::try_from(sum)?)),
            "{labels:?}: {scraped:?} scraped, {sum} in the end"
        );
    }
    Ok(())
}

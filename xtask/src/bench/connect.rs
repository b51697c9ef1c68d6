//! What a connection that succeeds costs while somebody watches.

use super::load::{Load, number};
use super::process::{self, Runs};
use super::table::Table;
use super::tools::{Tools, Way, median};
use super::watched::Watched;
use super::{failures, machine};
use crate::say;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;

const ROUNDS: usize = 7;
const CONNECTIONS: u32 = 20_000;

const SCRIPT: &str =
    "tracepoint:sock:inet_sock_set_state { @[comm, args->oldstate, args->newstate] = count(); }";
const IDLE: &str = "tracepoint:sock:inet_sock_set_state /pid == 0xffffffff/ { @never = 1; }";

const WAYS: [(&str, Way); 9] = [
    ("nobody watches", Way::Nothing),
    ("`tracer watch`", Way::Tracer(&[])),
    (
        "`tracer watch --no-closers`",
        Way::Tracer(&["--no-closers"]),
    ),
    (
        "`tracer watch --hooks function`",
        Way::Tracer(&["--hooks", "function"]),
    ),
    (
        "`tracer watch --hooks kprobe`",
        Way::Tracer(&["--hooks", "kprobe"]),
    ),
    (
        "`bpftrace` counts state changes by program",
        Way::Bpftrace(SCRIPT),
    ),
    (
        "`bpftrace`, a filter that never matches",
        Way::Bpftrace(IDLE),
    ),
    ("libbpf-tools `tcpstates`", Way::Tcpstates),
    ("bcc's `tcpstates`", Way::Bcc),
];

/// Successes, then failures.
pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let (successes, floor) = successes(tools)?;
    let failures = failures::measure(tools, floor)?;
    Ok(format!("On {machine}.\n\n{successes}\n\n{failures}"))
}

/// A way that can be measured here.
struct Measured {
    name: String,
    way: Way,
    nanoseconds: Vec<f64>,
    programs: BTreeMap<String, Runs>,
}

/// And what the kernel says of an almost empty program, nanoseconds.
fn successes(tools: &Tools) -> Result<(String, f64)> {
    let mut refused = Vec::new();
    let mut measured = Vec::new();
    for (name, way) in WAYS {
        say::note(name);
        match with_statistics(tools, way) {
            Ok((hooks, programs)) => measured.push(Measured {
                name: format!("{name}{hooks}"),
                way,
                nanoseconds: Vec::new(),
                programs,
            }),
            Err(why) => refused.push(format!("{name}: {why:#}")),
        }
    }
    for round in 1..=ROUNDS {
        say::note(&format!("round {round} of {ROUNDS}"));
        for one in &mut measured {
            let watched = one.way.start(tools)?;
            let answer = Load::start(&tools.live)?.ask(&format!("connects {CONNECTIONS}"))?;
            one.nanoseconds
                .push(number(&answer, "seconds")? * 1e9 / f64::from(CONNECTIONS));
            drop(watched.map(Watched::stop).transpose()?);
        }
    }
    let empty = measured
        .iter()
        .find(|one| matches!(one.way, Way::Bpftrace(IDLE)));
    let floor = empty.map_or(0.0, |one| each(&one.programs));
    Ok((tell(&measured, &refused, floor)?, floor))
}

/// What the kernel says of an almost empty program, nanoseconds; 0 if there can be none.
pub(super) fn floor(tools: &Tools) -> f64 {
    with_statistics(tools, Way::Bpftrace(IDLE)).map_or(0.0, |(_, programs)| each(&programs))
}

fn each(programs: &BTreeMap<String, Runs>) -> f64 {
    let sum = |of: fn(&Runs) -> f64| programs.values().map(of).sum::<f64>();
    sum(|runs| runs.nanoseconds) / sum(|runs| runs.count)
}

/// A run whose time does not count: which hooks there are, and what the programs do.
fn with_statistics(tools: &Tools, way: Way) -> Result<(String, BTreeMap<String, Runs>)> {
    let Some(watched) = way.start(tools)? else {
        return Ok(Default::default());
    };
    let mut load = Load::start(&tools.live)?;
    let programs = runs(&mut load, watched.pid(), &format!("connects {CONNECTIONS}"))?;
    let lines = watched.stop()?;
    let hooks = match (way, lines.first()) {
        (Way::Tracer(_), Some((_, startup))) => tiers(&serde_json::from_str(startup)?),
        _ => String::new(),
    };
    Ok((hooks, programs))
}

/// What the programs of `pid` do while a load obeys.
pub(super) fn runs(load: &mut Load, pid: u32, order: &str) -> Result<BTreeMap<String, Runs>> {
    load.ask("statistics")?;
    let before = process::programs(pid)?;
    load.ask(order)?;
    let after = process::programs(pid)?;
    let names = process::names()?;
    let mut runs: BTreeMap<String, Runs> = BTreeMap::new();
    for (id, now) in after {
        let then = before.get(&id).copied().unwrap_or_default();
        let name = names.get(&id).map_or("unnamed", String::as_str);
        let sum = runs.entry(name.to_owned()).or_default();
        sum.count += now.count - then.count;
        sum.nanoseconds += now.nanoseconds - then.nanoseconds;
    }
    Ok(runs)
}

/// The hooks that tracer got.
fn tiers(startup: &Value) -> String {
    let hooks = startup["hooks"].as_array().into_iter().flatten();
    let mut tiers: Vec<&str> = hooks.filter_map(|hook| hook["tier"].as_str()).collect();
    tiers.sort_unstable();
    tiers.dedup();
    format!(" ({})", tiers.join(", "))
}

fn tell(measured: &[Measured], refused: &[String], floor: f64) -> Result<String> {
    let mut table = Table::new(["", "ns", "×", "added ns", "of it in BPF", "runs"]);
    let mut nobody = None;
    for one in measured {
        let nanoseconds = median(one.nanoseconds.clone())?;
        let nobody = *nobody.get_or_insert(nanoseconds);
        let sum = |of: fn(&Runs) -> f64| one.programs.values().map(of).sum::<f64>();
        table.row([
            one.name.clone(),
            format!("{nanoseconds:.0}"),
            format!("{:.2}", nanoseconds / nobody),
            format!("{:.0}", nanoseconds - nobody),
            format!(
                "{:.0}",
                sum(|runs| runs.nanoseconds) / f64::from(CONNECTIONS) + 0.0
            ),
            format!(
                "{:.1}",
                sum(|runs| runs.count) / f64::from(CONNECTIONS) + 0.0
            ),
        ]);
    }
    let mut told = format!(
        "A connection on loopback (socket, connect, accept, two closes; the client first), \
         {ROUNDS} rounds of {CONNECTIONS}, the median; then what the kernel's statistics say \
         its BPF programs take and how often they run:\n\n{table}"
    );
    for why in refused {
        told += &format!("\n\nNot here: {why}.");
    }
    let tracer = measured
        .iter()
        .find(|one| matches!(one.way, Way::Tracer([])));
    if let Some(tracer) = tracer {
        let programs = programs(&tracer.programs, floor, f64::from(CONNECTIONS));
        told += &format!(
            "\n\nThe programs of `tracer watch`. The clock itself and an almost empty program \
             (the filter that never matches) take {floor:.0} ns:\n\n{programs}"
        );
    }
    Ok(told)
}

/// Program by program; `floor` is what an almost empty one takes, `events` how many
/// connections or failures there were.
pub(super) fn programs(programs: &BTreeMap<String, Runs>, floor: f64, events: f64) -> Table<5> {
    let mut table = Table::new([
        "",
        "budget, ns",
        "ns a run",
        "above an empty one",
        "runs each",
    ]);
    let often = |runs: &Runs| runs.count / events >= 0.01;
    for (name, runs) in programs.iter().filter(|(_, runs)| often(runs)) {
        let budget = match name.ends_with("closer") {
            true => "250 (an active close)",
            false => "",
        };
        let each = runs.nanoseconds / runs.count;
        table.row([
            format!("`{name}`"),
            budget.to_owned(),
            format!("{each:.0}"),
            format!("{:.0}", each - floor),
            format!("{:.2}", runs.count / events),
        ]);
    }
    table
}

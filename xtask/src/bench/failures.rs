//! What a connect that fails for want of a port costs while somebody watches.

use super::connect::{programs, runs};
use super::load::{Load, number};
use super::process::{self, Runs};
use super::table::Table;
use super::tools::{Tools, Way, median};
use super::watched::{Line, Watched};
use crate::say;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;

const ROUNDS: usize = 5;
const MILLIS: u32 = 1000;

const SCRIPT: &str = "tracepoint:syscalls:sys_exit_connect /args->ret == -99/ \
    { @[pid, comm] = count(); }";

const WAYS: [(&str, Way); 4] = [
    ("nobody watches", Way::Nothing),
    ("`tracer watch`", Way::Tracer(&[])),
    (
        "`bpftrace` counts the same errno by process",
        Way::Bpftrace(SCRIPT),
    ),
    ("libbpf-tools `tcpstates`", Way::Tcpstates),
];

#[derive(Default)]
struct Found {
    per_second: Vec<f64>,
    /// Of one core, percent.
    share: Vec<f64>,
    counted: f64,
    described: f64,
    failed: f64,
}

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let mut found: Vec<Found> = WAYS.iter().map(|_| Found::default()).collect();
    for round in 1..=ROUNDS {
        say::note(&format!("failures, round {round} of {ROUNDS}"));
        for ((_, way), found) in WAYS.iter().zip(&mut found) {
            one_round(tools, *way, found)?;
        }
    }
    let mut table = Table::new([
        "",
        "failures/s",
        "×",
        "its processor",
        "counted",
        "described",
    ]);
    let mut nobody = None;
    for ((name, way), found) in WAYS.iter().zip(found) {
        let rate = median(found.per_second)?;
        let nobody = *nobody.get_or_insert(rate);
        let is_tracer = matches!(way, Way::Tracer(_));
        let percent = |of: f64| match is_tracer {
            true => format!("{:.2} %", 100.0 * of / found.failed),
            false => String::new(),
        };
        table.row([
            (*name).to_owned(),
            format!("{rate:.0}"),
            format!("{:.2}", rate / nobody),
            match way {
                Way::Nothing => String::new(),
                _ => format!("{:.0} %", median(found.share)?),
            },
            percent(found.counted),
            percent(found.described),
        ]);
    }
    let (sum, each) = cost(tools)?;
    Ok(format!(
        "Connects that one spinning client can have fail (four ports, all taken), {ROUNDS} \
         rounds of {MILLIS} ms, the median; the watcher's processor time as a share of one \
         core:\n\n{table}\n\nA failure, counted and described (budget: 300 ns): {sum:.0} ns in \
         `tracer watch`'s programs, by the kernel's statistics:\n\n{each}"
    ))
}

fn one_round(tools: &Tools, way: Way, found: &mut Found) -> Result<()> {
    let watched = way.start(tools)?;
    let mut load = Load::start(&tools.live)?;
    load.ask("no-ports")?;
    let spent = |watched: &Option<Watched>| match watched {
        Some(watched) => process::processor(watched.pid()),
        None => Ok(0.0),
    };
    let before = spent(&watched)?;
    let answer = load.ask(&format!("fail {MILLIS}"))?;
    let processor = spent(&watched)? - before;
    let (failed, seconds) = (number(&answer, "failed")?, number(&answer, "seconds")?);
    found.per_second.push(failed / seconds);
    found.share.push(100.0 * processor / seconds);
    let Some(watched) = watched else {
        return Ok(());
    };
    let lines = watched.stop()?;
    if matches!(way, Way::Tracer(_)) {
        found.failed += failed;
        found.counted += counted(&lines, load.netns)?;
        found.described += events(&lines, load.netns)
            .map(|event| event.count)
            .sum::<f64>();
    }
    Ok(())
}

/// Nanoseconds of all programs for a failure, and program by program.
fn cost(tools: &Tools) -> Result<(f64, Table<4>)> {
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    load.ask("no-ports")?;
    let order = format!("fail {MILLIS}");
    let before = runs(&mut load, watched.pid(), &order)?;
    let lines = watched.stop()?;
    let failed = counted(&lines, load.netns)?;
    let sum: f64 = before.values().map(|runs| runs.nanoseconds).sum();
    let each: BTreeMap<String, Runs> = before;
    Ok((sum / failed, programs(&each, failed)))
}

/// The failures of a namespace by tracer's last totals.
pub(super) fn counted(lines: &[Line], netns: u64) -> Result<f64> {
    let totals = totals(lines)?;
    let rows = totals["counts"].as_array().into_iter().flatten();
    let own = rows.filter(|row| row["netns"] == netns);
    Ok(own.filter_map(|row| row["count"].as_f64()).sum())
}

/// tracer's last totals.
pub(super) fn totals(lines: &[Line]) -> Result<Value> {
    let last = lines
        .iter()
        .rfind(|(_, line)| line.contains("\"type\":\"totals\""));
    Ok(serde_json::from_str(&last.context("no totals")?.1)?)
}

/// An event of tracer.
pub(super) struct Event<'a> {
    pub(super) read: f64,
    pub(super) time: &'a str,
    /// How many failures it stands for.
    pub(super) count: f64,
}

/// The events of a namespace. There may be a million: what is needed is cut out.
pub(super) fn events(lines: &[Line], netns: u64) -> impl Iterator<Item = Event<'_>> {
    let of_namespace = format!("\"netns\":{netns},");
    lines.iter().filter_map(move |(read, line)| {
        let is_wanted = line.contains("\"type\":\"event\"") && line.contains(&of_namespace);
        let after = |name| line.split_once(name).map(|(_, rest)| rest);
        let (time, _) = after("\"time\":\"")?.split_once('"')?;
        let (count, _) = after("\"count\":")?.split_once(',')?;
        is_wanted.then_some(Event {
            read: *read,
            time,
            count: count.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_namespace() {
        let line = |netns| format!(r#"{{"type":"event","time":"now","count":3,"netns":{netns},"#);
        let lines = [(1.0, line(7)), (2.0, line(77))];
        let found: Vec<_> = events(&lines, 7)
            .map(|e| (e.read, e.time, e.count))
            .collect();
        assert_eq!(found, [(1.0, "now", 3.0)]);
    }
}

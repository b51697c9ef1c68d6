//! What a connect that fails for want of a port costs while somebody watches.

use super::connect::{programs, runs};
use super::load::{Load, number};
use super::process::{self, Runs};
use super::said::{counted, events};
use super::table::Table;
use super::tools::{Tools, Way, median};
use super::watched::Watched;
use crate::say;
use anyhow::Result;

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

/// `floor`: what an almost empty program takes.
pub(super) fn measure(tools: &Tools, floor: f64) -> Result<String> {
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
    let (sum, each) = cost(tools, floor)?;
    Ok(format!(
        "Connects that one spinning client can have fail (four ports, all taken), {ROUNDS} \
         rounds of {MILLIS} ms, the median; the watcher's processor time as a share of one \
         core:\n\n{table}\n\nA failure, counted and described (budget: 300 ns): {sum:.0} ns in \
         `tracer watch`'s programs above as many empty ones, by the kernel's statistics:\n\n{each}"
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
fn cost(tools: &Tools, floor: f64) -> Result<(f64, Table<5>)> {
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    load.ask("no-ports")?;
    let order = format!("fail {MILLIS}");
    let programs_run = runs(&mut load, watched.pid(), &order)?;
    let lines = watched.stop()?;
    let failed = counted(&lines, load.netns)?;
    let above = |runs: &Runs| runs.nanoseconds - runs.count * floor;
    let sum: f64 = programs_run.values().map(above).sum();
    Ok((sum / failed, programs(&programs_run, floor, failed)))
}

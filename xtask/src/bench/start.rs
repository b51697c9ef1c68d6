//! How long tracer takes to be ready, and how big it is.

use super::table::Table;
use super::tools::{Tools, Way, median};
use super::{machine, process};
use crate::say;
use anyhow::{Context as _, Result};
use std::time::Duration;

const ROUNDS: usize = 7;
/// What is allocated only once it runs shall count, too.
const SETTLED: Duration = Duration::from_secs(1);

const SCRIPT: &str = "tracepoint:sock:inet_sock_set_state { @[comm] = count(); }";

const WAYS: [(&str, Way); 4] = [
    ("`tracer watch`", Way::Tracer(&[])),
    ("`bpftrace`, one tracepoint", Way::Bpftrace(SCRIPT)),
    ("libbpf-tools `tcpstates`", Way::Tcpstates),
    ("bcc's `tcpstates`", Way::Bcc),
];

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let mut table = Table::new([
        "",
        "ms to attached",
        "MB resident",
        "MB at most",
        "MB of maps",
    ]);
    table.row(["budget of tracer", "250", "12", "24", ""].map(str::to_owned));
    let mut refused = String::new();
    for (name, way) in WAYS {
        say::note(name);
        match started(tools, way) {
            Ok([start, resident, peak, maps]) => {
                table.row([name.to_owned(), start, resident, peak, maps]);
            }
            Err(why) => refused += &format!("\n\nNot here: {name}: {why:#}."),
        }
    }
    let bytes = std::fs::metadata(&tools.tracer)?.len() as f64;
    Ok(format!(
        "On {machine}.\n\nFrom exec to the record or line that says it is attached (the \
         median of {ROUNDS}; bpftrace says it within 10 ms), and memory a second later:\n\n{table}{refused}\n\nThe program that users \
         download, static and stripped: {:.1} MB (budget: 8 MB).",
        bytes / 1e6
    ))
}

fn started(tools: &Tools, way: Way) -> Result<[String; 4]> {
    let (mut starts, mut resident, mut peaks, mut maps) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let watched = way.start(tools)?.context("nothing to start")?;
        starts.push(watched.start.as_secs_f64() * 1e3);
        // Memory is the same each time, and a second is long.
        if round < 3 {
            std::thread::sleep(SETTLED);
            let (now, peak) = process::memory(watched.pid())?;
            resident.push(now);
            peaks.push(peak);
            maps.push(process::maps(watched.pid())?);
        }
        watched.stop()?;
    }
    let [resident, peaks, maps] = [resident, peaks, maps].map(median);
    Ok([
        format!("{:.0}", median(starts)?),
        format!("{:.1}", resident?),
        format!("{:.1}", peaks?),
        format!("{:.1}", maps?),
    ])
}

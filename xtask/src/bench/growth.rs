//! Does tracer grow with what it watches?

use super::load::{Load, number};
use super::said::{counted, events, records, totals};
use super::table::Table;
use super::tools::Tools;
use super::watched::Watched;
use super::{machine, process};
use crate::say;
use anyhow::Result;
use std::time::Duration;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];

/// After the last failure: until all findings are written.
const SETTLED: Duration = Duration::from_secs(2);

struct Kind {
    name: &'static str,
    before: Option<&'static str>,
    order: &'static str,
    finding: &'static str,
    limits: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "listeners, each of which drops a SYN",
        before: None,
        order: "drop-at",
        finding: "queue",
        limits: "tracer keeps the books of 256 listeners at a time: drops of the others are \
            counted and told, without a `queue` record",
    },
    Kind {
        name: "processes, each of which fails once and is gone",
        before: Some("no-ports"),
        order: "fail-from",
        finding: "census",
        limits: "tracer remembers 4096 processes",
    },
    Kind {
        name: "destinations, to each of which a connect fails",
        before: Some("no-ports"),
        order: "fail-to",
        finding: "census",
        limits: "tracer takes a census for 256 destinations at a time: failures towards others \
            are counted and told without",
    },
];

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let mut told = format!(
        "On {machine}.\n\nA new tracer for each row. Memory two seconds after the last failure; \
         the kernel's maps have their full size from the start. Lost: counted, but too \
         many at once to be described. Findings: `census` and `queue` records, of which a \
         listener has several."
    );
    for kind in KINDS {
        let mut table = Table::new([
            "",
            "failures",
            "counted",
            "in events",
            "lost",
            "findings",
            "MB resident",
            "MB at most",
            "MB of maps",
        ]);
        for size in SIZES {
            say::note(&format!("{size} {}", kind.name));
            table.row(row(tools, &kind, size)?);
        }
        told += &format!(
            "\n\nGrowing: {}. Limit: {}.\n\n{table}",
            kind.name, kind.limits
        );
    }
    Ok(told)
}

fn row(tools: &Tools, kind: &Kind, size: u32) -> Result<[String; 9]> {
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    if let Some(order) = kind.before {
        load.ask(order)?;
    }
    let answer = load.ask(&format!("{} {size}", kind.order))?;
    let failures = number(&answer, "failed").or_else(|_| number(&answer, "drops"))?;
    std::thread::sleep(SETTLED);
    let (resident, peak) = process::memory(watched.pid())?;
    let maps = process::maps(watched.pid())?;
    let lines = watched.stop()?;
    let in_events: f64 = events(&lines, load.netns).map(|event| event.count).sum();
    Ok([
        size.to_string(),
        failures.to_string(),
        counted(&lines, load.netns)?.to_string(),
        in_events.to_string(),
        totals(&lines)?["lost"].to_string(),
        records(&lines, kind.finding, load.netns)
            .count()
            .to_string(),
        format!("{resident:.1}"),
        format!("{peak:.1}"),
        format!("{maps:.1}"),
    ])
}

//! How long tracer takes to say who has the ports, when there are many sockets.

use super::load::{Load, number};
use super::machine;
use super::measure::{Cost, cost};
use super::said::records;
use super::table::Table;
use super::tools::{Tools, median};
use super::watched::Watched;
use crate::say;
use anyhow::{Result, ensure};

const ROUNDS: usize = 3;
const EADDRNOTAVAIL: f64 = 99.0;

/// What the sockets are, how a load makes them, and whether any of them is open.
const SOCKETS: [(&str, &str); 2] = [
    ("28,000 in TIME_WAIT", "time-wait 28000"),
    ("60,000 established", "established 30000"),
];

const COUNT: &str = "ss -Htan | awk '{ n[$1 \" \" $5]++ } END { for (k in n) print n[k], k }'";
const BY_PROCESS: &str =
    "ss -Htanp | awk '{ n[$1 \" \" $5 \" \" $6]++ } END { for (k in n) print n[k], k }'";

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let mut once = Table::new(["", "s", "×", "s of a core", "peak MB"]);
    let mut live = Table::new(["", "ms to the census", "of it reading", "sockets read"]);
    for (name, order) in SOCKETS {
        say::note(name);
        let mut found = Found::default();
        for _ in 0..ROUNDS {
            found.round(tools, order)?;
        }
        let beside = median(found.tracer.iter().map(|cost| cost.seconds).collect())?;
        for (what, costs) in [
            ("`tracer ports`", found.tracer),
            ("`ss -tan` and `awk`: states, peers", found.ss),
            ("`ss -tanp` and `awk`: processes, too", found.ss_processes),
        ] {
            let of = |field: fn(&Cost) -> f64| median(costs.iter().map(field).collect());
            let seconds = of(|cost| cost.seconds)?;
            once.row([
                format!("{name}: {what}"),
                format!("{seconds:.2}"),
                format!("{:.1}", seconds / beside.max(0.01)),
                format!("{:.2}", of(|cost| cost.processor)?),
                format!("{:.1}", of(|cost| cost.megabytes)?),
            ]);
        }
        live.row([
            name.to_owned(),
            format!("{:.0}", median(found.delays)? * 1e3),
            format!("{:.0}", median(found.reading)?),
            format!("{:.0}", median(found.sockets)?),
        ]);
    }
    Ok(format!(
        "On {machine}.\n\nA snapshot of sockets in a network namespace (the median of {ROUNDS}; \
         tracer reads all namespaces and names the processes, except of TIME_WAIT, which only \
         `tracer watch` can know; × is beside `tracer ports`):\n\n{once}\n\nFrom the first \
         connect that failed for want of a port to the `census` record of `tracer watch`:\n\n{live}"
    ))
}

#[derive(Default)]
struct Found {
    tracer: Vec<Cost>,
    ss: Vec<Cost>,
    ss_processes: Vec<Cost>,
    delays: Vec<f64>,
    reading: Vec<f64>,
    sockets: Vec<f64>,
}

impl Found {
    fn round(&mut self, tools: &Tools, order: &str) -> Result<()> {
        let mut watched = Watched::tracer(&tools.tracer, &[])?;
        let mut load = Load::start(&tools.live)?;
        load.ask(order)?;
        let failure = load.ask("fail-once")?;
        ensure!(
            number(&failure, "errno")? == EADDRNOTAVAIL,
            "a port was free: {failure}"
        );
        let (read, census) = loop {
            let line = [watched.await_line("\"type\":\"census\"")?];
            let census = records(&line, "census", load.netns).next();
            if let Some(census) = census {
                let [(read, _)] = line;
                break (read, census);
            }
        };
        self.delays.push(read - number(&failure, "at")?);
        self.reading.push(number(&census, "took_ms")?);
        self.sockets.push(number(&census, "sockets")?);
        watched.stop()?;
        let cost = |words: &[&str]| cost(&tools.directory, words);
        let inside = |script| ["nsenter", &load.namespace(), "sh", "-c", script].map(str::to_owned);
        let ss = |script| cost(&inside(script).each_ref().map(String::as_str));
        self.tracer
            .push(cost(&[&tools.tracer, "ports", "--format", "json"])?);
        self.ss.push(ss(COUNT)?);
        self.ss_processes.push(ss(BY_PROCESS)?);
        Ok(())
    }
}

//! Whether a loud one hides a quiet one: what each process and listener did, beside what
//! tracer says of each.

use super::load::{Load, number};
use super::said::totals;
use super::table::Table;
use super::tools::Tools;
use super::watched::Watched;
use super::{machine, process};
use crate::say;
use anyhow::{Context as _, Result};
use serde_json::Value;

const MILLIS: u32 = 6000;

/// What happens, and the orders for it: what comes before, and what is measured.
const CROWDS: [(&str, Option<&str>, &str); 3] = [
    (
        "connect() fails, 1 process spins",
        Some("no-ports"),
        "spin 1",
    ),
    (
        "connect() fails, 2 processes spin",
        Some("no-ports"),
        "spin 2",
    ),
    ("SYNs dropped, 2 threads send", None, "storm 2"),
];

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let mut counts = Table::new(["", "who", "did", "counted", "described"]);
    let mut costs = Table::new([
        "",
        "failures a second",
        "all of the kernel",
        "all of tracer",
        "processor",
        "MB before",
        "MB after",
    ]);
    for crowd in CROWDS {
        say::note(crowd.0);
        one(tools, crowd, &mut counts, &mut costs)?;
    }
    Ok(format!(
        "On {machine}.\n\nLoud ones, which fail as often as they can for {MILLIS} ms, and a quiet \
         one beside them, which fails 40 times. What each did by its own account (errno; SYNs \
         sent), what the last `totals` counts for that process or listener, and how many of \
         these were told one by one (budget: equal; all of the quiet one):\n\n{counts}\n\nAll \
         together: by the processes' own account, or ListenDrops of the namespace; tracer's \
         processor time as a share of one core (budget: 20 % at 1,000,000 failures and 700,000 \
         SYNs a second), and its memory (budget: flat):\n\n{costs}"
    ))
}

fn one(
    tools: &Tools,
    (name, before, order): (&str, Option<&str>, &str),
    counts: &mut Table<5>,
    costs: &mut Table<7>,
) -> Result<()> {
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    if let Some(order) = before {
        load.ask(order)?;
    }
    let pid = watched.pid();
    let spent = process::processor(pid)?;
    let memory = process::memory(pid)?.0;
    let answer = load.ask(&format!("{order} {MILLIS}"))?;
    let spent = process::processor(pid)? - spent;
    let after = process::memory(pid)?.0;
    let said = totals(&watched.stop()?)?;
    let by: Vec<&Value> = said["by"]
        .as_array()
        .context("totals have no `by`")?
        .iter()
        .filter(|row| row["netns"] == load.netns)
        .collect();
    let mut all = 0.0;
    let mut counted_all = 0.0;
    for party in answer["parties"].as_array().context("no parties")? {
        let is_its = |row: &&&Value| match party["pid"].as_u64() {
            Some(pid) => row["process"]["pid"] == pid,
            None => {
                let local = row["listener"]["local"].as_str().unwrap_or_default();
                local.ends_with(&format!(":{}", party["port"]))
            }
        };
        let sum = |field: &str| -> f64 {
            let rows = by.iter().filter(is_its);
            rows.filter_map(|row| row[field].as_f64()).sum()
        };
        let did = number(party, "did")?;
        all += did;
        counted_all += sum("counted");
        let quiet = party["quiet"] == true;
        counts.row([
            name.to_owned(),
            if quiet { "the quiet one" } else { "a loud one" }.to_owned(),
            format!("{did:.0}"),
            format!("{:.0}", sum("counted")),
            format!("{:.0}", sum("described")),
        ]);
    }
    let seconds = number(&answer, "seconds")?;
    let kernel = answer["drops"].as_f64().unwrap_or(all);
    costs.row([
        name.to_owned(),
        format!("{:.0}", kernel / seconds),
        format!("{kernel:.0}"),
        format!("{counted_all:.0}"),
        format!("{:.1} %", 100.0 * spent / seconds),
        format!("{memory:.1}"),
        format!("{after:.1}"),
    ]);
    Ok(())
}

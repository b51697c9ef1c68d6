//! What connections and failures cost in each tier. Only a virtual machine lets every
//! tier attach; under emulation seconds say nothing, so there are ratios and counts.

use super::table::Table;
use crate::binaries::Binaries;
use crate::place::Place;
use crate::vm::{self, IN_FULL as KERNEL};
use crate::{kernels, say};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// The kernel's command line asks for it: tracer/tests/live/cost.rs.
const WORD: &str = "tracer.bench";
/// What that says.
const MARK: &str = "live: cost ";
/// Runs for each connection, and ends at its first comparison for most: as good as empty.
const EMPTY: &str = "raw_tp_listener";

/// Boots, and reads what it says.
pub(super) fn measure(place: &Place, binaries: &Binaries) -> Result<String> {
    let kernels = kernels::fetch(place, &[KERNEL.to_owned()])?;
    let arguments = ["--tier", "auto", "--filter", "cli/cost"].map(str::to_owned);
    let words = [WORD.to_owned()];
    let runs = vm::matrix(place, &kernels.usable, binaries, &arguments, &words)?;
    for run in &runs {
        let counts = run.counts();
        ensure!(counts.failed == 0, "vm {KERNEL}: {counts}");
    }
    let console = vm::console(place, KERNEL, WORD);
    let said = fs::read(&console).with_context(|| console.display().to_string())?;
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().filter_map(|line| line.split_once(MARK));
    let told: Vec<Value> = lines
        .map(|(_, json)| Ok(serde_json::from_str(json.trim_end())?))
        .collect::<Result<_>>()?;
    let [nobody, tiers @ ..] = &told[..] else {
        bail!("the machine says nothing of costs");
    };
    tell(nobody, tiers)
}

/// Nanoseconds, runs, and instructions verified, of each program.
type Costs = BTreeMap<String, [f64; 3]>;

fn tell(nobody: &Value, tiers: &[Value]) -> Result<String> {
    let mut whole = Table::new([
        "",
        "a connection, ×",
        "programs run",
        "verified instructions",
        "failures a second, ×",
        "programs run",
    ]);
    let mut each = Table::new([
        "",
        "runs a connection",
        "× an empty one",
        "runs a failure",
        "× an empty one",
        "verified",
    ]);
    let speed = |of: &Value| -> Result<f64> {
        let failures = &of["failures"];
        Ok(number(&failures["failed"])? / number(&failures["seconds"])?)
    };
    let empty = empty(tiers);
    for tier in tiers {
        let name = tier["tier"].as_str().context("no tier")?;
        if let Some(why) = tier["refused"].as_str() {
            say::note(&format!("{name}: {why}"));
            continue;
        }
        let connections = number(&tier["connections"]["count"])?;
        let failures = number(&tier["failures"]["failed"])?;
        let [before, between, after] = ["before", "between", "after"].map(|at| costs(&tier[at]));
        let (before, between, after) = (before?, between?, after?);
        let runs = |from: &Costs, to: &Costs| -> f64 {
            let more = to.iter().map(|(id, cost)| cost[1] - from[id][1]);
            more.sum()
        };
        let seconds = |of: &Value| number(&of["connections"]["seconds"]);
        whole.row([
            format!("`--hooks {name}`"),
            format!("{:.2}", seconds(tier)? / seconds(nobody)?),
            format!("{:.1}", runs(&before, &between) / connections),
            format!("{:.0}", after.values().map(|cost| cost[2]).sum::<f64>()),
            format!("{:.2}", speed(tier)? / speed(nobody)?),
            format!("{:.1}", runs(&between, &after) / failures),
        ]);
        for (id, end) in &after {
            let program = id.split('#').next().unwrap_or_default();
            let cost = |from: &Costs, to: &Costs, all: f64| {
                let runs = to[id][1] - from[id][1];
                let ns = to[id][0] - from[id][0];
                match (runs > 0.0, empty) {
                    (true, Some(empty)) => [
                        format!("{:.1}", runs / all),
                        format!("{:.1}", ns / runs / empty),
                    ],
                    _ => ["0".to_owned(), String::new()],
                }
            };
            let [ran, took] = cost(&before, &between, connections);
            let [ran_failing, took_failing] = cost(&between, &after, failures);
            if ran == "0" && ran_failing == "0" {
                continue;
            }
            let verified = format!("{:.0}", end[2]);
            let name = format!("{name}: `{program}`");
            each.row([name, ran, took, ran_failing, took_failing, verified]);
        }
    }
    Ok(format!(
        "Linux {KERNEL} in an emulator (QEMU's TCG), the load of the table above in each tier; × is \
         beside nobody who watches. Verified instructions are what the kernel's verifier went \
         through to let all programs in:\n\n{whole}\n\nThe programs of each tier that ran, and \
         what a run took beside one of `{EMPTY}`, which ends at its first comparison:\n\n{each}"
    ))
}

/// Nanoseconds of a program that does next to nothing.
fn empty(tiers: &[Value]) -> Option<f64> {
    tiers.iter().find_map(|tier| {
        let [before, between] = ["before", "between"].map(|at| costs(&tier[at]).ok());
        let (before, between) = (before?, between?);
        let (id, end) = between.iter().find(|(id, _)| id.starts_with(EMPTY))?;
        let begin = before.get(id)?;
        Some((end[0] - begin[0]) / (end[1] - begin[1]))
    })
}

fn costs(of: &Value) -> Result<Costs> {
    let mut costs = Costs::new();
    for (id, cost) in of.as_object().context("no costs")? {
        let mut three = [0.0; 3];
        for (value, told) in three.iter_mut().zip(cost.as_array().context("no numbers")?) {
            *value = number(told)?;
        }
        costs.insert(id.clone(), three);
    }
    Ok(costs)
}

fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("no number: {value}"))
}

//! Which runs of tracer is the capture of, and what do they say about
//! themselves: hooks, totals, ends?

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::filter::Filter;

use super::record::{LIST, amount, list, name, sentence, time};

/// Runs that are told one by one.
const RUNS: usize = 64;
/// Lines of totals of one run.
const ROWS: usize = 256;

/// One run of tracer.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) version: String,
    pub(super) boot_id: String,
    /// As in the startup record; `None`: the files begin without one.
    pub(super) started: Option<Timestamp>,
    /// The first record of it.
    pub(super) first: Option<Timestamp>,
    /// The last record of it.
    pub(super) last: Option<Timestamp>,
    /// The number of its last file, in a rotated set.
    pub(super) file: u64,
    /// Purposes by tier.
    pub(super) tiers: BTreeMap<String, Vec<String>>,
    pub(super) degradations: Vec<String>,
    /// Why it ended; `None`: no record says so.
    pub(super) end: Option<String>,
    pub(super) totals: Option<Totals>,
}

/// The last totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) is_final: bool,
    pub(super) counted: u64,
    pub(super) described: u64,
    pub(super) summed: u64,
    pub(super) lost: u64,
    pub(super) filtered: u64,
    pub(super) malformed: u64,
    pub(super) unplaced: u64,
    pub(super) unjudged: u64,
    pub(super) meanwhile: u64,
    pub(super) kernel: Vec<Kernel>,
    /// Namespaces that are not in `kernel`.
    pub(super) more: u64,
}

/// tracer's counts beside the kernel's, in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) netns: u64,
    /// `ListenOverflows`, `ListenDrops`, `TCPReqQFullDrop`.
    pub(super) pairs: [Pair; 3],
    pub(super) unavailable: Option<String>,
}

impl Kernel {
    pub(super) fn agrees(&self) -> bool {
        let mut pairs = self.pairs.iter();
        pairs.all(|pair| pair.kernel == Some(pair.tracer))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) tracer: u64,
    pub(super) kernel: Option<u64>,
}

impl Pair {
    /// How many more the kernel counted; none: its counter is unknown.
    pub(super) fn difference(self) -> Option<i128> {
        Some(i128::from(self.kernel?) - i128::from(self.tracer))
    }
}

/// The names of [`Kernel::pairs`] in records.
pub(super) const COUNTERS: [&str; 3] = ["listen_overflows", "listen_drops", "tcp_req_qfull_drop"];

/// All runs, in the order of the files.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    pub(super) told: Vec<Run>,
    /// Runs after those.
    pub(super) more: u64,
}

impl Runs {
    /// Takes a startup record in; `true`: it begins another run. Every file of
    /// a rotated set begins with that of its run.
    pub(super) fn start(&mut self, record: &Value) -> bool {
        let run = startup(record);
        let is_same = self.told.last().is_some_and(|last| {
            last.started.is_some() && last.started == run.started && last.boot_id == run.boot_id
        });
        if is_same {
            return false;
        }
        if self.told.len() < RUNS {
            self.told.push(run);
        } else {
            // The last one stands for what comes after it: its times go on.
            self.more = self.more.saturating_add(1);
        }
        true
    }

    /// The run that records now belong to.
    pub(super) fn current(&mut self) -> &mut Run {
        if self.told.is_empty() {
            self.told.push(Run::default());
        }
        let last = self.told.len() - 1;
        &mut self.told[last]
    }

    /// The sum over all runs.
    pub(super) fn totals(&self) -> Option<Totals> {
        let mut totals = self.told.iter().filter_map(|run| run.totals.as_ref());
        let mut sum = totals.next()?.clone();
        for next in totals {
            sum.is_final &= next.is_final;
            for (sum, next) in [
                (&mut sum.counted, next.counted),
                (&mut sum.described, next.described),
                (&mut sum.summed, next.summed),
                (&mut sum.lost, next.lost),
                (&mut sum.filtered, next.filtered),
                (&mut sum.malformed, next.malformed),
                (&mut sum.unplaced, next.unplaced),
                (&mut sum.unjudged, next.unjudged),
                (&mut sum.meanwhile, next.meanwhile),
                (&mut sum.more, next.more),
            ] {
                *sum = sum.saturating_add(next);
            }
            sum.kernel.extend(next.kernel.iter().cloned());
        }
        Some(sum)
    }
}

/// What a `verified` record says of hooks that did not see what they should, as sentences.
pub(super) fn failed_hooks(record: &Value) -> Vec<String> {
    let failed = list(&record["purposes"], LIST).filter(|one| one["status"] == "failed");
    let told = |one: &Value| {
        let purpose = name(&one["purpose"])?;
        let why = sentence(&one["reason"]).unwrap_or_default();
        Some(format!(
            "{purpose}: FAILED when it was verified at start ({why})"
        ))
    };
    failed.filter_map(told).collect()
}

fn startup(record: &Value) -> Run {
    let mut tiers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for hook in list(&record["hooks"], 2 * LIST) {
        if let (Some(tier), Some(purpose)) = (name(&hook["tier"]), name(&hook["purpose"])) {
            tiers.entry(tier).or_default().push(purpose);
        }
    }
    let text = |field: &str| name(&record[field]).unwrap_or_default();
    Run {
        host: text("host"),
        kernel: text("kernel"),
        version: text("version"),
        boot_id: text("boot_id"),
        started: time(&record["time"]),
        tiers,
        degradations: list(&record["degradations"], LIST)
            .filter_map(sentence)
            .collect(),
        ..Run::default()
    }
}

/// `only`: what was asked for; other rows are left out of all numbers.
pub(super) fn totals(record: &Value, only: &Filter) -> Totals {
    let rows = |name: &str| record[name].as_array().into_iter().flatten();
    let kernel_rows = || rows("kernel").filter(|row| only.wants_compared(row));
    let unwanted = rows("counts").filter(|row| !only.wants_counted(row));
    let gone = unwanted.map(|row| amount(&row["count"]));
    let gone = gone.fold(0, u64::saturating_add);
    Totals {
        is_final: record["final"] == true,
        counted: amount(&record["counted"]).saturating_sub(gone),
        described: amount(&record["described"]),
        summed: amount(&record["summed"]),
        lost: amount(&record["lost"]),
        filtered: amount(&record["filtered"]).saturating_sub(gone),
        malformed: amount(&record["malformed"]),
        unplaced: amount(&record["unplaced"]),
        unjudged: amount(&record["unjudged"]),
        meanwhile: amount(&record["meanwhile"]),
        kernel: kernel_rows().take(ROWS).map(kernel).collect(),
        more: kernel_rows().skip(ROWS).fold(0, |more, _| more + 1),
    }
}

fn kernel(row: &Value) -> Kernel {
    Kernel {
        netns: amount(&row["netns"]),
        pairs: COUNTERS.map(|counter| Pair {
            tracer: amount(&row[counter]["tracer"]),
            kernel: row[counter]["kernel"].as_u64(),
        }),
        unavailable: sentence(&row["unavailable"]),
    }
}

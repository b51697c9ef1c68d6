//! After tracer has ended: is its whole story about a scenario true, nothing
//! missing and nothing twice, and do its totals equal the kernel's own counters?

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::case::Case;
use crate::census;
use crate::counters::Counters;
use crate::expect::{self, Expected, Times};
use crate::netns::Namespace;
use crate::tracer::{self, Tracer};

/// The startup record's purpose behind an event.
fn purpose(kind: &str, cause: &str) -> &'static str {
    match (kind, cause) {
        ("connect_failed", "no_source_address") => "connect_v6_source",
        ("connect_failed", "refused_by_policy") => "connect_policy",
        ("connect_failed", _) => "connect",
        ("bind_failed", _) => "bind",
        ("listen_failed", _) => "listen",
        ("syn_dropped", _) => "syn_drop",
        ("ack_dropped", _) => "ack_drop",
        _ => "overflow_reset",
    }
}

/// How far tracer may be off: not at all, unless it said that it only comes near.
fn tolerance(tracer: &Tracer, kind: &str, cause: &str, truth: u64) -> u64 {
    match tracer.hook(purpose(kind, cause)).1.as_str() {
        "near" => truth / 5 + 2,
        _ => 0,
    }
}

/// The same for what is expected.
fn spare(tracer: &Tracer, expected: &Expected) -> u64 {
    let (Times::Exactly(truth) | Times::AtLeast(truth)) = expected.times;
    tolerance(tracer, expected.kind, expected.cause, truth)
}

/// Judges one scenario by the records of a tracer that has ended; what to add to
/// the verdict line.
pub(crate) fn judge(case: &Case, tracer: &Tracer) -> Result<String> {
    let records = tracer.records();
    let totals = tracer::final_totals(&records)?;
    let mut details = Vec::new();
    for space in &case.spaces {
        let expected: Vec<&Expected> = case
            .expected
            .iter()
            .filter(|one| one.netns == space.inum)
            .collect();
        judge_events(tracer, space.inum, &expected)?;
        let counts = counts_of(totals, space.inum);
        judge_failures(tracer, &expected, &counts)?;
        if let Some(detail) = judge_drops(case, tracer, space, totals, &counts)? {
            details.push(detail);
        }
    }
    Ok(details.join(", "))
}

/// The name of the check below in the verdict lines.
pub(crate) const ADD_UP: &str = "totals/add-up";

/// The totals must agree with themselves and with the events that were told.
pub(crate) fn add_up(tracer: &Tracer) -> Result<String> {
    let records = tracer.records();
    let totals = tracer::final_totals(&records)?;
    let number = |name: &str| totals[name].as_u64().with_context(|| format!("no {name}"));
    let (counted, lost) = (number("counted")?, number("lost")?);
    let described = number("described")? + number("summed")?;
    let rows = totals["counts"].as_array().into_iter().flatten();
    let sum: u64 = rows.filter_map(|row| row["count"].as_u64()).sum();
    let told = tracer.told_in_all();
    for census in records.iter().filter(|record| record["type"] == "census") {
        census::adds_up(census)?;
    }
    let detail = format!("counted {counted} described {described} lost {lost}");
    ensure!(sum == counted, "{detail}, but the rows add up to {sum}");
    ensure!(
        told == described,
        "{detail}, but the events stand for {told}"
    );
    ensure!(described <= counted, "{detail}: more told than happened");
    Ok(detail)
}

/// Every event must be one that was provoked, and no failure may be told twice.
fn judge_events(tracer: &Tracer, netns: u64, expected: &[&Expected]) -> Result<()> {
    let events = tracer.events_in(netns);
    let mut strange = 0;
    let spare: u64 = expected.iter().map(|one| spare(tracer, one)).sum();
    for event in &events {
        if expected.iter().any(|one| one.differences(event).is_empty()) {
            continue;
        }
        strange += expect::weight(event);
        ensure!(
            strange <= spare,
            "an event that nobody provoked: {}",
            expect::explain(expected, std::slice::from_ref(event))
        );
    }
    for one in expected {
        let Times::Exactly(wanted) = one.times else {
            continue;
        };
        let seen = expect::matched(one, &events);
        ensure!(
            seen.abs_diff(wanted) <= self::spare(tracer, one),
            "{}/{}: {wanted} provoked, {seen} told: {events:?}",
            one.kind,
            one.cause
        );
    }
    Ok(())
}

type Counts = BTreeMap<(String, String), u64>;

fn counts_of(totals: &Value, netns: u64) -> Counts {
    let mut counts = Counts::new();
    for row in totals["counts"].as_array().into_iter().flatten() {
        if row["netns"] == netns {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let count = row["count"].as_u64().unwrap_or_default();
            *counts.entry((text("kind"), text("cause"))).or_default() += count;
        }
    }
    counts
}

/// The totals of failing calls, against the numbers that were provoked.
fn judge_failures(tracer: &Tracer, expected: &[&Expected], counts: &Counts) -> Result<()> {
    let mut truth = Counts::new();
    let mut open = BTreeSet::new();
    for one in expected {
        let key = (one.kind.to_owned(), one.cause.to_owned());
        match one.times {
            Times::Exactly(count) => *truth.entry(key).or_default() += count,
            Times::AtLeast(_) => {
                open.insert(key);
            }
        }
    }
    let keys: BTreeSet<_> = truth.keys().chain(counts.keys()).collect();
    for key in keys {
        if open.contains(key) {
            continue; // judged by the kernel's counters
        }
        let wanted = truth.get(key).copied().unwrap_or_default();
        let seen = counts.get(key).copied().unwrap_or_default();
        let (kind, cause) = key;
        ensure!(
            seen.abs_diff(wanted) <= tolerance(tracer, kind, cause, wanted),
            "totals: {kind}/{cause} {seen}, provoked {wanted}"
        );
    }
    Ok(())
}

/// The totals of queue drops, against the kernel's counters; `None` when there were none.
fn judge_drops(
    case: &Case,
    tracer: &Tracer,
    space: &Namespace,
    totals: &Value,
    counts: &Counts,
) -> Result<Option<String>> {
    let kernel = Counters::read(space)?;
    let sum = |wanted: fn(&str, &str) -> bool| -> u64 {
        let fits = |key: &&(String, String)| is_drop(&key.0) && wanted(&key.0, &key.1);
        let keys = counts.keys().filter(fits);
        keys.filter_map(|key| counts.get(key)).sum()
    };
    let overflows = sum(|_, cause| cause == "accept_queue_full");
    let drops = sum(|_, _| true);
    let queue = sum(|_, cause| cause == "request_queue_full");
    if kernel.listen_drops == 0 && drops == 0 {
        return Ok(None);
    }
    let purposes = ["syn_drop", "ack_drop", "overflow_reset"];
    let near = purposes
        .iter()
        .any(|purpose| tracer.hook(purpose).1 == "near");
    // What the kernel did not run is told.
    let missed = totals["missed"].as_array().into_iter().flatten();
    let missed: u64 = missed
        .filter(|row| purposes.iter().any(|purpose| row["purpose"] == *purpose))
        .filter_map(|row| row["runs"].as_u64())
        .sum();
    let mut told = Vec::new();
    for (name, mine, truth) in [
        ("ListenOverflows", overflows, kernel.listen_overflows),
        ("ListenDrops", drops, kernel.listen_drops),
        ("TCPReqQFullDrop", queue, kernel.request_queue_full),
    ] {
        let spread = if near { truth / 5 + 2 } else { 0 };
        let allowed = spread + missed;
        if mine.abs_diff(truth) > allowed {
            bail!(
                "{name}: tracer counted {mine}, the kernel {truth}, and {missed} runs were \
                 missed; by cause {counts:?}"
            );
        }
        told.push(format!("{name} {mine}/{truth}"));
    }
    let watched = case.is_watched(space);
    told.push(judge_kernel_record(totals, space.inum, &kernel, watched)?);
    Ok(Some(told.join(" ")))
}

fn is_drop(kind: &str) -> bool {
    matches!(kind, "syn_dropped" | "ack_dropped" | "overflow_reset")
}

/// What tracer itself read from the kernel must be what we read.
fn judge_kernel_record(
    totals: &Value,
    netns: u64,
    kernel: &Counters,
    watched: bool,
) -> Result<String> {
    let row = totals["kernel"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["netns"] == netns)
        .with_context(|| format!("totals.kernel has no row of netns {netns}"))?;
    if let Some(reason) = row["unavailable"].as_str() {
        ensure!(!watched, "the namespace has a process, but: {row}");
        return Ok(format!("(tracer could not read the kernel's: {reason})"));
    }
    for (name, truth) in [
        ("listen_overflows", kernel.listen_overflows),
        ("listen_drops", kernel.listen_drops),
        ("tcp_req_qfull_drop", kernel.request_queue_full),
    ] {
        let seen = row[name]["kernel"].as_u64();
        ensure!(
            seen == Some(truth),
            "totals.kernel.{name} is {seen:?}, the kernel says {truth}: {row}"
        );
        let mine = row[name]["tracer"].as_i64().unwrap_or_default();
        let difference = row[name]["difference"].as_i64();
        ensure!(
            difference == i64::try_from(truth).ok().map(|truth| truth - mine),
            "totals.kernel.{name}: wrong difference in {row}"
        );
    }
    Ok("(tracer read the same)".to_owned())
}

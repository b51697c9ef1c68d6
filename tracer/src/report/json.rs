//! The report as one JSON object, documented in docs/report.md. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    analyse::{About, Analysis, CallKey, Calls, Finding, Listener, ListenerKey, Times},
    crowd::{Crowd, Pids, Program},
    record::{Advice, Census, Holder, Part, Queue, Who},
    runs::{COUNTERS, Kernel, Run, Totals},
    tally::{Others, Row},
    timeline::{Axis, COLUMNS, Course},
    unseen,
};
use crate::capture::read::Damage;

/// Version of this object: raised when a field changes its meaning.
const VERSION: u32 = 1;

pub(super) fn report(analysis: &Analysis, damage: &Damage, top: usize) -> Value {
    let axis = analysis.axis(COLUMNS);
    let axis = axis.as_ref();
    json!({
        "v": VERSION,
        "type": "report",
        "captured": captured(analysis, damage),
        "filter": filter(analysis),
        "findings": analysis.findings().iter().take(top).map(|found| finding(found, analysis, axis)).collect::<Vec<_>>(),
        "programs": programs(analysis, axis, top),
        "listeners": listeners(analysis, axis, top),
        "others": {
            "findings": others(analysis, top),
            "programs": rest(analysis.processes.others(top)),
            "listeners": rest(analysis.listeners.others(top)),
        },
        "timeline": axis.map(|axis| timeline(analysis, axis)),
        "totals": analysis.runs.totals().as_ref().map(totals),
        "not_seen": unseen::sentences(analysis),
    })
}

fn time(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn first(times: Times) -> Option<String> {
    times.0.map(|(first, _)| time(first))
}

fn last(times: Times) -> Option<String> {
    times.0.map(|(_, last)| time(last))
}

fn captured(analysis: &Analysis, damage: &Damage) -> Value {
    let gaps = analysis.gaps.iter().map(
        |gap| json!({ "since": time(gap.since), "until": time(gap.until), "reason": gap.why }),
    );
    json!({
        "since": first(analysis.span),
        "until": last(analysis.span),
        "runs": analysis.runs.told.iter().map(run).collect::<Vec<_>>(),
        "more_runs": analysis.runs.more,
        "records": analysis.records,
        "failures": analysis.events,
        "censuses": analysis.censuses,
        "queues": analysis.queues,
        "lost": analysis.lost,
        "gaps": gaps.collect::<Vec<_>>(),
        "more_gaps": analysis.more_gaps,
        "damage": {
            "torn_bytes": damage.torn_bytes,
            "corrupt_frames": damage.corrupt_frames,
            "skipped_bytes": damage.skipped_bytes,
            "refused_frames": damage.refused_frames,
            "bad_lines": damage.bad_lines,
        },
        "skipped": {
            "not_understood": analysis.skipped.not_understood,
            "newer": analysis.skipped.newer,
            "unknown_types": analysis.skipped.types.others(0).count,
        },
    })
}

fn run(run: &Run) -> Value {
    json!({
        "host": run.host,
        "kernel": run.kernel,
        "version": run.version,
        "boot_id": run.boot_id,
        "started": run.started.map(time),
        "since": run.first.map(time),
        "until": run.last.map(time),
        "end": run.end,
        "hooks": run.tiers,
        "degradations": run.degradations,
    })
}

fn filter(analysis: &Analysis) -> Value {
    let filter = analysis.filter();
    json!({
        "since": filter.since.map(time),
        "until": filter.until.map(time),
        "pids": filter.only.pids,
        "comms": filter.only.comms,
        "kinds": filter.only.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "only": filter.only.words(),
        "shown": analysis.shown,
    })
}

fn finding(finding: &Finding<'_>, analysis: &Analysis, axis: Option<&Axis>) -> Value {
    let (boot, course, mut value) = match finding.about {
        About::Calls(key, calls) => (key.boot, &calls.course, failed_calls(key, calls)),
        About::Listener(key, listener) => (key.boot, &listener.course, dropping(key, listener)),
    };
    value["timeline"] = bars(course, axis);
    value["host"] = analysis.host(boot).into();
    value["count"] = finding.count.into();
    value["count_is_partial"] = finding.is_partial.into();
    value
}

fn failed_calls(key: &CallKey, calls: &Calls) -> Value {
    let worst = calls.worst.as_ref();
    json!({
        "about": "failed_calls",
        "count": 0,
        "count_is_partial": false,
        "netns": key.netns,
        "kind": key.kind.name(),
        "cause": key.cause.name(),
        "address": key.address,
        "since": first(calls.times),
        "until": last(calls.times),
        "programs": people(&calls.victims),
        "censuses": calls.censuses,
        "census": worst.map(census),
        "culprit": worst.and_then(Census::culprit).map(|(part, holder)| culprit(part, holder)),
        "advice": worst.map(|census| advice(&census.advice)).unwrap_or_default(),
    })
}

fn dropping(key: &ListenerKey, listener: &Listener) -> Value {
    let spell = listener.spell();
    json!({
        "about": "listener",
        "count": 0,
        "count_is_partial": false,
        "netns": key.netns,
        "local": key.local,
        "inode": key.inode,
        "causes": listener.causes.iter().map(|(cause, count)| {
            json!({ "cause": cause.name(), "count": count })
        }).collect::<Vec<_>>(),
        "drops": {
            "syn_dropped": listener.syns,
            "ack_dropped": listener.acks,
            "overflow_reset": listener.resets,
        },
        "since": first(listener.times),
        "until": last(listener.times),
        "programs": people(&listener.who),
        "ghosts": { "count": listener.ghosts, "peers": listener.ghost_peers },
        "spells": listener.spells,
        "worst_spell": spell.map(worst),
        "advice": spell.map(|spell| advice(&spell.advice)).unwrap_or_default(),
    })
}

fn people(crowd: &Crowd) -> Value {
    let rows = crowd.0.by_weight();
    let named: Vec<_> = rows
        .iter()
        .map(|(who, row)| program(who, &row.detail, row.count, row.is_partial))
        .collect();
    json!({ "named": named, "others": rest(crowd.0.others(named.len())) })
}

fn program(who: &Program, pids: &Pids, count: u64, is_partial: bool) -> Value {
    let (known, others) = pids.known();
    let known = known.iter();
    json!({
        "comm": (!who.is_unknown).then_some(&who.comm),
        "kernel": who.kernel,
        "count": count,
        "count_is_partial": is_partial,
        "pids": known.map(|(pid, count)| json!({ "pid": pid, "count": count })).collect::<Vec<_>>(),
        "other_pids": rest(others),
    })
}

fn process(who: &Who) -> Value {
    json!({ "pid": who.pid, "comm": who.comm, "kernel": who.kernel })
}

fn census(census: &Census) -> Value {
    let parts = census.parts.iter().map(|part| {
        let holders = part.holders.iter().map(holder).collect::<Vec<_>>();
        json!({
            "state": part.state,
            "ports": part.ports,
            "holders": holders,
            "more_holders": part.more,
        })
    });
    json!({
        "time": time(census.time),
        "source": census.source,
        "destination": census.destination,
        "range": {
            "low": census.low,
            "high": census.high,
            "own": census.is_own,
            "usable": census.usable,
        },
        "parts": parts.collect::<Vec<_>>(),
        "free": census.free,
        "unexplained": census.unexplained,
        "incomplete": census.incomplete,
        "unavailable": census.unavailable,
    })
}

fn holder(holder: &Holder) -> Value {
    json!({
        "owner": holder.owner,
        "comm": holder.comm,
        "reason": holder.reason,
        "ports": holder.ports,
        "sockets": holder.sockets,
        "process_count": holder.process_count,
        "processes": holder.processes.iter().map(process).collect::<Vec<_>>(),
    })
}

fn culprit(part: &Part, found: &Holder) -> Value {
    let mut value = holder(found);
    value["state"] = part.state.clone().into();
    value
}

fn worst(spell: &Queue) -> Value {
    json!({
        "since": time(spell.since),
        "until": time(spell.until),
        "drops": spell.drops,
        "connections": spell.connections,
        "connections_capped": spell.is_capped,
        "accept_queue": {
            "len": spell.len,
            "max": spell.max,
            "asked": spell.asked,
            "somaxconn": spell.somaxconn,
        },
        "request_queue": { "len": spell.request_len, "max": spell.request_max },
        "arrivals_per_s": spell.arrivals_per_s,
        "accepts_per_s": spell.accepts_per_s,
        "accepts": spell.accepts,
        "accept_failures": spell.accept_failures,
        "accept_errno": spell.accept_errno,
        "holders": spell.holders.iter().map(process).collect::<Vec<_>>(),
    })
}

fn advice(advice: &[Advice]) -> Vec<Value> {
    let advice = advice.iter();
    advice
        .map(|advice| json!({ "id": advice.id, "text": advice.text }))
        .collect()
}

/// On the axis of the whole.
fn bars(course: &Course, axis: Option<&Axis>) -> Value {
    axis.map(|axis| course.on(axis)).into()
}

fn programs(analysis: &Analysis, axis: Option<&Axis>, top: usize) -> Vec<Value> {
    let rows = analysis.processes.by_weight().into_iter().take(top);
    rows.map(|((boot, who), row)| {
        let reasons = row.detail.reasons.by_weight();
        let reason = reasons.first().map(|(key, row)| {
            json!({
                "kind": key.kind.name(),
                "cause": key.cause.name(),
                "address": key.address,
                "count": row.count,
            })
        });
        let mut value = program(who, &row.detail.pids, row.count, row.is_partial);
        value["host"] = analysis.host(*boot).into();
        value["since"] = first(row.detail.times).into();
        value["until"] = last(row.detail.times).into();
        value["main_reason"] = reason.into();
        value["timeline"] = bars(&row.detail.course, axis);
        value
    })
    .collect()
}

fn listeners(analysis: &Analysis, axis: Option<&Axis>, top: usize) -> Vec<Value> {
    let rows = analysis.listeners.by_weight().into_iter().take(top);
    rows.map(|(key, row): (&ListenerKey, &Row<Listener>)| {
        json!({
            "local": key.local,
            "netns": key.netns,
            "inode": key.inode,
            "count": row.count,
            "count_is_partial": row.is_partial,
            "programs": people(&row.detail.who),
            "timeline": bars(&row.detail.course, axis),
        })
    })
    .collect()
}

/// What is left of calls and listeners when the first `top` are told.
fn others(analysis: &Analysis, top: usize) -> Value {
    let findings = analysis.findings();
    let calls = findings.iter().take(top);
    let calls = calls.filter(|finding| matches!(finding.about, About::Calls(..)));
    let calls = calls.count();
    let calls_left = analysis.calls.others(calls);
    let listeners_left = analysis
        .listeners
        .others(findings.len().min(top).saturating_sub(calls));
    rest(Others {
        keys: calls_left.keys.saturating_add(listeners_left.keys),
        count: calls_left.count.saturating_add(listeners_left.count),
    })
}

fn rest(others: Others) -> Value {
    json!({ "entries": others.keys, "count": others.count })
}

fn timeline(analysis: &Analysis, axis: &Axis) -> Value {
    let bars = analysis.timeline.on(axis);
    let bars = bars.iter().map(|bucket| {
        json!({ "failed_calls": bucket.calls, "drops": bucket.drops, "lost": bucket.lost })
    });
    json!({
        "since": Timestamp::from_millisecond(axis.start_ms).ok().map(time),
        "bar_ms": axis.width_ms,
        "bars": bars.collect::<Vec<_>>(),
    })
}

fn totals(totals: &Totals) -> Value {
    json!({
        "final": totals.is_final,
        "counted": totals.counted,
        "described": totals.described,
        "summed": totals.summed,
        "lost": totals.lost,
        "filtered": totals.filtered,
        "malformed": totals.malformed,
        "unplaced": totals.unplaced,
        "unjudged": totals.unjudged,
        "kernel": totals.kernel.iter().map(kernel).collect::<Vec<_>>(),
        "more": totals.more,
        "meanwhile": totals.meanwhile,
    })
}

fn kernel(row: &Kernel) -> Value {
    let mut value = json!({ "netns": row.netns, "unavailable": row.unavailable });
    for (counter, pair) in COUNTERS.iter().zip(row.pairs) {
        let difference = pair.difference();
        let difference = difference.and_then(|difference| i64::try_from(difference).ok());
        value[*counter] =
            json!({ "tracer": pair.tracer, "kernel": pair.kernel, "difference": difference });
    }
    value
}

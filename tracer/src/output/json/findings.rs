//! Findings as JSON, documented in docs/records.md. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{VERSION, process, queue, text, time};
use crate::{
    explain::{
        census::Scope,
        finding::{
            Advice, BoundUnused, Census, Holder, Owner, Part, Program, QueueFinding, Range,
            Settings,
        },
    },
    model::{Asked, Queue, accept_errno_name, protocol_name},
};

pub(in crate::output) fn census(census: &Census) -> Value {
    json!({
        "v": VERSION,
        "type": "census",
        "time": time(census.time),
        "id": census.id,
        "netns": census.netns,
        "netns_cookie": census.netns_cookie,
        "netns_name": census.netns_name.as_deref(),
        "kind": census.kind.name(),
        "cause": census.cause.name(),
        "protocol": protocol_name(census.protocol),
        "source": census.source.map(|ip| ip.to_string()),
        "destination": census.destination.map(|address| address.to_string()),
        "range": range(census.range),
        "parts": census.parts.iter().map(part).collect::<Vec<_>>(),
        "free": census.free,
        "unexplained": census.unexplained,
        "bound_unused": bound_unused(&census.bound_unused),
        "sysctls": settings(&census.settings),
        "sockets": census.sockets,
        "took_ms": census.took_ms,
        "advice": advice(&census.advice),
    })
}

pub(in crate::output) fn no_census(at: Timestamp, id: u64, scope: &Scope, why: &str) -> Value {
    json!({
        "v": VERSION,
        "type": "census",
        "time": time(at),
        "id": id,
        "netns": scope.netns.inum,
        "netns_cookie": scope.netns.cookie,
        "kind": scope.kind.name(),
        "cause": scope.cause.name(),
        "unavailable": why,
    })
}

pub(in crate::output) fn queue_finding(finding: &QueueFinding) -> Value {
    let ghosts = finding.ghosts.iter().map(|ghost| {
        json!({
            "address": ghost.peer.to_string(),
            "process": ghost.process.as_ref().map(process),
        })
    });
    json!({
        "v": VERSION,
        "type": "queue",
        "time": time(finding.time),
        "id": finding.id,
        "netns": finding.netns,
        "netns_cookie": finding.netns_cookie,
        "netns_name": finding.netns_name.as_deref(),
        "cause": finding.cause.name(),
        "local": finding.local.map(|address| address.to_string()),
        "socket": { "inode": finding.inode },
        "process": finding.process.as_ref().map(process),
        "holders": finding.holders.iter().map(process).collect::<Vec<_>>(),
        "since": time(finding.since),
        "until": time(finding.until),
        "accept_queue": accept_queue(finding.accept_queue, finding.asked),
        "request_queue": queue(finding.request_queue),
        "drops": {
            "syn_dropped": finding.syn_drops,
            "ack_dropped": finding.ack_drops,
            "overflow_reset": finding.resets,
        },
        "connections": finding.connections,
        "connections_capped": finding.connections_capped,
        "arrivals_per_s": finding.arrivals_per_s.map(tenths),
        "accepts_per_s": finding.accepts_per_s.map(tenths),
        "accepts": finding.accepts,
        "disagreement": finding.disagreement.map(|(tracer, kernel)| {
            json!({ "tracer": tracer, "kernel": kernel })
        }),
        "accept_failures": finding.accept_failures,
        "accept_errno": finding.accept_errno.map(accept_errno_name),
        "ghosts": { "count": finding.ghost_count, "peers": ghosts.collect::<Vec<_>>() },
        "sysctls": settings(&finding.settings),
        "advice": advice(&finding.advice),
    })
}

/// More digits than one behind the point would pretend too much. Rounded as the
/// text is.
fn tenths(rate: f64) -> f64 {
    format!("{rate:.1}").parse().unwrap_or(rate)
}

pub(super) fn range(range: Range) -> Value {
    json!({
        "low": range.low,
        "high": range.high,
        "own": range.is_own,
        "reserved": range.reserved,
        "usable": range.usable,
    })
}

pub(super) fn part(part: &Part) -> Value {
    json!({
        "state": part.state.name(),
        "ports": part.ports,
        "sockets": part.sockets,
        "holders": part.holders.iter().map(holder).collect::<Vec<_>>(),
    })
}

pub(super) fn holder(holder: &Holder) -> Value {
    let program = match &holder.owner {
        Owner::Processes(program) => Some(program),
        _ => None,
    };
    let reason = match &holder.owner {
        Owner::Unknown(why) => Some(why),
        _ => None,
    };
    json!({
        "owner": holder.owner.name(),
        "comm": program.map(|program| text(&program.comm)),
        "reason": reason,
        "ports": holder.ports,
        "sockets": holder.sockets,
        "process_count": program.map(|program| program.count),
        "processes": program.map(processes).unwrap_or_default(),
    })
}

fn processes(program: &Program) -> Vec<Value> {
    let named = program.named.iter();
    named
        .map(|(one, ports)| {
            let mut value = process(one);
            value["ports"] = (*ports).into();
            value
        })
        .collect()
}

pub(super) fn bound_unused(found: &BoundUnused) -> Value {
    let (method, reason) = match found {
        BoundUnused::SockDiag => ("sock_diag", None),
        BoundUnused::PidfdGetfd => ("pidfd_getfd", None),
        BoundUnused::Incomplete(why) => ("incomplete", Some(why)),
    };
    json!({ "method": method, "reason": reason })
}

/// The settings by their names in /proc/sys/net, those that this kernel has.
pub(in crate::output) fn settings(settings: &Settings) -> Value {
    let pair = |(low, high)| format!("{low} {high}");
    let reserved = settings.reserved_ports.iter().map(|(low, high)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    });
    let mut all = Map::new();
    if let Some(range) = settings.port_range {
        all.insert("ip_local_port_range".into(), pair(range).into());
    }
    let reserved = reserved.collect::<Vec<_>>().join(",");
    all.insert("ip_local_reserved_ports".into(), reserved.into());
    let numbers = [
        ("tcp_tw_reuse", settings.tw_reuse),
        ("tcp_tw_reuse_delay", settings.tw_reuse_delay),
        ("tcp_timestamps", settings.timestamps),
        ("tcp_max_tw_buckets", settings.max_tw_buckets),
        ("somaxconn", settings.somaxconn),
        ("tcp_max_syn_backlog", settings.max_syn_backlog),
        ("tcp_syncookies", settings.syncookies),
        ("tcp_abort_on_overflow", settings.abort_on_overflow),
        ("tcp_synack_retries", settings.synack_retries),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            all.insert(name.into(), value.into());
        }
    }
    Value::Object(all)
}

pub(in crate::output) fn advice(advice: &[Advice]) -> Vec<Value> {
    advice
        .iter()
        .map(|advice| json!({ "id": advice.id, "text": advice.text }))
        .collect()
}

/// An accept queue, with what `listen()` asked for.
pub(in crate::output) fn accept_queue(length: Queue, asked: Option<Asked>) -> Value {
    let mut value = queue(length);
    value["asked"] = asked.map(|asked| asked.backlog).into();
    value["somaxconn"] = asked.map(|asked| asked.somaxconn).into();
    value
}

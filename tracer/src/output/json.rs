//! Records as JSON, documented in docs/records.md. Pure.
//!
//! Names that are not UTF-8 have their invalid bytes replaced (JSON has no
//! other way); nothing else is altered, serde_json escapes control characters.

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) mod event;
pub(super) mod findings;
pub(super) mod snapshot;

use crate::{
    capture::Gap,
    model::{Process, Queue},
    probe::Served,
    reconcile::{Pair, Row},
    record::{By, End, Record, Totals, Verified},
    snapshot::listeners::Listener,
    startup::Startup,
};

/// Version of the schema: raised when a field changes its meaning.
const VERSION: u32 = 1;

fn time(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a record as a line without its end.
pub(super) fn write(record: Record<'_>, line: &mut Vec<u8>) {
    let value = match record {
        // The one record that comes in floods is not made into a tree of values.
        Record::Failure(failure) => return event::write(failure, line),
        Record::Startup(of) => startup(of),
        Record::Census(census) => findings::census(census),
        Record::NoCensus(time, id, scope, why) => findings::no_census(time, id, scope, why),
        Record::Queue(finding) => findings::queue_finding(finding),
        Record::Totals(of) => totals(of),
        Record::Verified(of) => verified(of),
        Record::Lost(time, count) => lost(time, count),
        Record::Gap(time, of) => gap(time, of),
        Record::End(of) => end(of),
    };
    line.extend_from_slice(value.to_string().as_bytes());
}

pub(super) fn startup(startup: &Startup) -> Value {
    json!({
        "v": VERSION,
        "type": "startup",
        "time": time(startup.time),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": startup.kernel,
        "arch": std::env::consts::ARCH,
        "boot_id": startup.boot_id,
        "host": startup.host,
        "hooks": startup.served.iter().map(served).collect::<Vec<_>>(),
        "degradations": startup.degradations,
        "unmatched": startup.unmatched,
        "clock": {
            "realtime": startup.clocks.realtime,
            "boottime": startup.clocks.boottime,
            "monotonic": startup.clocks.monotonic,
        },
        "netns": startup.netns,
        "sysctls": findings::settings(&startup.settings),
        "listeners": startup.listening.as_ref().map(|all| {
            all.told.iter().map(listener).collect::<Vec<_>>()
        }),
        "more_listeners": startup.listening.as_ref().map(|all| all.more),
    })
}

/// A listener has at most so many holders in a startup record, which readers
/// take only up to a size.
const HOLDERS: usize = 4;

fn listener(listener: &Listener) -> Value {
    let named = listener.holders.iter().take(HOLDERS);
    let named = named.map(|holder| json!({ "pid": holder.pid, "comm": text(&holder.comm) }));
    json!({
        "netns": listener.place.netns,
        "local": listener.local.to_string(),
        "socket": { "inode": listener.inode },
        "max": listener.max,
        "holders": named.collect::<Vec<_>>(),
        "holder_count": listener.holders.len(),
    })
}

fn served(served: &Served) -> Value {
    let by = served.by.as_ref();
    json!({
        "purpose": served.purpose.name(),
        "tier": by.map_or("none", |by| by.tier.name()),
        "programs": by.map(|by| by.targets.clone()).unwrap_or_default(),
        "exactness": by.map_or("none", |by| by.exactness.name()),
        "reason": served.reason,
    })
}

pub(super) fn process(process: &Process) -> Value {
    let place = process.place.as_deref();
    json!({
        "pid": process.pid,
        "tid": process.tid,
        "comm": text(&process.comm),
        "exe": process.exe.as_deref().map(text),
        "cmdline": process.cmdline.as_deref().map(text),
        "uid": process.uid,
        "kernel": process.kernel,
        "cgroup": place.map(|place| &place.cgroup),
        "container": place.and_then(|place| place.container.as_ref()).map(|container| json!({
            "id": container.id,
            "runtime": container.runtime,
            "name": container.name,
        })),
        "unit": place.and_then(|place| place.unit.as_ref()),
        "pod": place.and_then(|place| place.pod.as_ref()).map(|pod| json!({
            "uid": pod.uid,
            "name": pod.name,
            "namespace": pod.namespace,
        })),
    })
}

fn queue(queue: Queue) -> Value {
    json!({ "len": queue.len, "max": queue.max })
}

pub(super) fn totals(totals: &Totals) -> Value {
    let counts: Vec<_> = totals
        .counts
        .iter()
        .map(|((netns, kind, cause), count)| {
            json!({
                "netns": netns.inum,
                "netns_cookie": netns.cookie,
                "netns_name": totals.netns_names.get(netns).map(|name| &**name),
                "kind": kind.name(),
                "cause": cause.name(),
                "count": count,
            })
        })
        .collect();
    let (by, rest) = totals.by.split_at(totals.by.len().min(BY));
    let rest_of = |of: fn(&By) -> u64| rest.iter().map(of).sum::<u64>();
    json!({
        "v": VERSION,
        "type": "totals",
        "time": time(totals.time),
        "since": time(totals.since),
        "final": totals.is_final,
        "counted": totals.health.counted,
        "described": totals.health.described,
        "summed": totals.health.summed,
        "lost": totals.health.lost(),
        "filtered": totals.health.filtered,
        "filtered_in_kernel": totals.filtered_in_kernel,
        "malformed": totals.malformed,
        "unattributed": totals.health.unattributed,
        "unplaced": totals.health.unplaced,
        "unjudged": totals.health.unjudged,
        "counts": counts,
        "by": by.iter().map(|of| party(totals, of)).collect::<Vec<_>>(),
        "by_more": {
            "entries": rest.len(),
            "counted": rest_of(|by| by.counted),
            "described": rest_of(|by| by.described),
        },
        "kernel": totals.rows.iter().map(|of| row(totals, of)).collect::<Vec<_>>(),
        "meanwhile": totals.meanwhile,
        "missed": totals.missed.iter().map(|missed| json!({
            "purpose": missed.purpose.name(),
            "runs": missed.runs,
        })).collect::<Vec<_>>(),
    })
}

/// Totals name so many processes and listeners, those that failed most often: readers
/// take records only up to a size.
const BY: usize = 1024;

fn party(totals: &Totals, by: &By) -> Value {
    json!({
        "netns": by.netns.inum,
        "netns_cookie": by.netns.cookie,
        "netns_name": totals.netns_names.get(&by.netns).map(|name| &**name),
        "kind": by.kind.name(),
        "cause": by.cause.name(),
        "process": by.process.as_ref().map(process),
        "listener": by.listener.as_ref().map(|listener| json!({
            "local": listener.local.map(|local| local.to_string()),
            "inode": listener.inode,
        })),
        "counted": by.counted,
        "described": by.described,
    })
}

fn row(totals: &Totals, row: &Row) -> Value {
    json!({
        "netns": row.netns.inum,
        "netns_cookie": row.netns.cookie,
        "netns_name": totals.netns_names.get(&row.netns).map(|name| &**name),
        "listen_overflows": pair(row.listen_overflows),
        "listen_drops": pair(row.listen_drops),
        "tcp_req_qfull_drop": pair(row.req_qfull_drop),
        "unavailable": row.unavailable,
        "explanation": row.explanation,
    })
}

fn pair(pair: Pair) -> Value {
    let difference = pair
        .difference()
        .and_then(|difference| i64::try_from(difference).ok());
    json!({ "tracer": pair.tracer, "kernel": pair.kernel, "difference": difference })
}

fn verified(verified: &Verified) -> Value {
    let purposes = verified.purposes.iter().map(|one| {
        let by = one.by.as_ref();
        json!({
            "purpose": one.purpose.name(),
            "status": one.status.name(),
            "caused": one.caused,
            "seen": one.seen,
            "tier": by.map_or("none", |by| by.tier.name()),
            "programs": by.map(|by| by.targets.clone()).unwrap_or_default(),
            "exactness": by.map_or("none", |by| by.exactness.name()),
            "reason": one.reason,
        })
    });
    json!({
        "v": VERSION,
        "type": "verified",
        "time": time(verified.time),
        "purposes": purposes.collect::<Vec<_>>(),
    })
}

fn lost(at: Timestamp, count: u64) -> Value {
    json!({ "v": VERSION, "type": "lost", "time": time(at), "count": count })
}

/// Records that a capture lacks.
pub(crate) fn gap(at: Timestamp, gap: &Gap) -> Value {
    json!({
        "v": VERSION,
        "type": "gap",
        "time": time(at),
        "since": time(gap.since),
        "records": gap.records,
        "reason": gap.reason,
    })
}

fn end(end: &End) -> Value {
    json!({
        "v": VERSION,
        "type": "end",
        "time": time(end.time),
        "reason": end.reason,
        "exit_code": end.exit_code,
    })
}

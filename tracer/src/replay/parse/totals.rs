//! Totals, and tracer's counts beside the kernel's.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::netns_name;
use crate::{
    model::Netns,
    probe::Missed,
    reconcile::{Pair, Row},
    record::{By, Listener, Totals},
    replay::fields::{Field, get},
    source::counters::{Counts, Health},
};

pub(super) fn totals(record: &Value) -> Option<Totals> {
    Some(Totals {
        time: get(record, "time")?,
        since: get(record, "since")?,
        is_final: get(record, "final")?,
        health: Health {
            counted: get(record, "counted")?,
            described: get(record, "described")?,
            // What older captures lack is 0.
            summed: get::<Option<_>>(record, "summed")?.unwrap_or_default(),
            unattributed: get::<Option<_>>(record, "unattributed")?.unwrap_or_default(),
            // Before there were filters, captures had neither.
            filtered: get::<Option<_>>(record, "filtered")?.unwrap_or_default(),
            unplaced: get(record, "unplaced")?,
            unjudged: get(record, "unjudged")?,
            waiting: 0,
        },
        filtered_in_kernel: get::<Option<_>>(record, "filtered_in_kernel")?.unwrap_or_default(),
        malformed: get(record, "malformed")?,
        counts: counts(record.get("counts")?.as_array()?)?,
        by: match record.get("by") {
            None => Vec::new(),
            Some(_) => get(record, "by")?,
        },
        rows: get(record, "kernel")?,
        netns_names: names(record)?,
        meanwhile: get(record, "meanwhile")?,
        missed: match record.get("missed") {
            None => Vec::new(),
            Some(_) => get(record, "missed")?,
        },
    })
}

fn counts(records: &[Value]) -> Option<Counts> {
    let count = |record| {
        let kind = (get(record, "kind")?, get(record, "cause")?);
        let key = (netns(record)?, kind.0, kind.1);
        Some((key, get(record, "count")?))
    };
    records.iter().map(count).collect()
}

/// A namespace; of older captures by its inode number alone.
fn netns(record: &Value) -> Option<Netns> {
    Some(Netns {
        inum: get(record, "netns")?,
        cookie: get::<Option<_>>(record, "netns_cookie")?.unwrap_or_default(),
    })
}

/// What people call the namespaces of all lists.
fn names(record: &Value) -> Option<BTreeMap<Netns, Arc<str>>> {
    let mut names = BTreeMap::new();
    for list in ["counts", "by", "kernel"] {
        for of in record
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(name) = netns_name(of)? {
                names.insert(netns(of)?, name);
            }
        }
    }
    Some(names)
}

impl Field for Missed {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            purpose: get(value, "purpose")?,
            runs: get(value, "runs")?,
        })
    }
}

impl Field for By {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            netns: netns(value)?,
            kind: get(value, "kind")?,
            cause: get(value, "cause")?,
            process: get(value, "process")?,
            listener: get(value, "listener")?,
            counted: get(value, "counted")?,
            described: get(value, "described")?,
        })
    }
}

impl Field for Listener {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            inode: get(value, "inode")?,
            local: get(value, "local")?,
        })
    }
}

impl Field for Row {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            netns: netns(value)?,
            listen_overflows: get(value, "listen_overflows")?,
            listen_drops: get(value, "listen_drops")?,
            req_qfull_drop: get(value, "tcp_req_qfull_drop")?,
            unavailable: get(value, "unavailable")?,
            explanation: get(value, "explanation")?,
        })
    }
}

impl Field for Pair {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            tracer: get(value, "tracer")?,
            kernel: get(value, "kernel")?,
        })
    }
}

//! Totals, and tracer's counts beside the kernel's.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::netns_name;
use crate::{
    reconcile::{Pair, Row},
    record::Totals,
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
            // Before there were filters, captures had neither.
            filtered: get::<Option<_>>(record, "filtered")?.unwrap_or_default(),
            unplaced: get(record, "unplaced")?,
            unjudged: get(record, "unjudged")?,
        },
        filtered_in_kernel: get::<Option<_>>(record, "filtered_in_kernel")?.unwrap_or_default(),
        malformed: get(record, "malformed")?,
        counts: counts(record.get("counts")?.as_array()?)?,
        rows: get(record, "kernel")?,
        netns_names: names(record)?,
        meanwhile: get(record, "meanwhile")?,
    })
}

fn counts(records: &[Value]) -> Option<Counts> {
    let count = |record| {
        let kind = (get(record, "kind")?, get(record, "cause")?);
        let key = (get(record, "netns")?, kind.0, kind.1);
        Some((key, get(record, "count")?))
    };
    records.iter().map(count).collect()
}

/// What people call the namespaces of both lists.
fn names(record: &Value) -> Option<BTreeMap<u32, Arc<str>>> {
    let mut names = BTreeMap::new();
    for list in ["counts", "kernel"] {
        for of in record.get(list)?.as_array()? {
            if let Some(name) = netns_name(of)? {
                names.insert(get(of, "netns")?, name);
            }
        }
    }
    Some(names)
}

impl Field for Row {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            netns: get(value, "netns")?,
            listen_overflows: get(value, "listen_overflows")?,
            listen_drops: get(value, "listen_drops")?,
            req_qfull_drop: get(value, "tcp_req_qfull_drop")?,
            unavailable: get(value, "unavailable")?,
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

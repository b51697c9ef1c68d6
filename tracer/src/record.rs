//! The one stream: what tracer found out, live or from a file, as every sink
//! takes it (text, JSON, capture, metrics).

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    capture::Gap,
    explain::{
        census::Scope,
        finding::{Census, QueueFinding},
    },
    model::Failure,
    reconcile::Row,
    source::counters::{Counts, Health},
    startup::Startup,
};

/// A record; docs/records.md has them all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Startup(&'a Startup),
    Failure(&'a Failure),
    Census(&'a Census),
    /// A census that could not be taken: when, which, of what, and why.
    NoCensus(Timestamp, u64, &'a Scope, &'a str),
    Queue(&'a QueueFinding),
    Totals(&'a Totals),
    /// So many failures were counted but not described.
    Lost(Timestamp, u64),
    /// What a capture lacks.
    Gap(Timestamp, &'a Gap),
    End(&'a End),
}

/// What a `totals` record tells; everything since tracer attached.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) time: Timestamp,
    pub(crate) since: Timestamp,
    /// The last one.
    pub(crate) is_final: bool,
    pub(crate) health: Health,
    /// Those of `health.filtered` that the kernel side never described.
    pub(crate) filtered_in_kernel: u64,
    /// Records of the ring that could not be decoded.
    pub(crate) malformed: u64,
    pub(crate) counts: Counts,
    pub(crate) rows: Vec<Row>,
    /// What people call the namespaces of both.
    pub(crate) netns_names: BTreeMap<u32, Arc<str>>,
    /// Drops counted while the kernel's counters were being read: a difference
    /// up to this says nothing.
    pub(crate) meanwhile: u64,
}

#[cfg(test)]
impl Totals {
    /// Some totals, for tests to change.
    pub(crate) fn example() -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            since: Timestamp::UNIX_EPOCH,
            is_final: false,
            health: Health::default(),
            filtered_in_kernel: 0,
            malformed: 0,
            counts: Counts::new(),
            rows: Vec::new(),
            netns_names: BTreeMap::new(),
            meanwhile: 0,
        }
    }
}

/// What an `end` record tells.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) time: Timestamp,
    pub(crate) reason: String,
    pub(crate) exit_code: u8,
}

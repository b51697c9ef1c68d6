//! The one stream: what tracer found out, live or from a file, as every sink
//! takes it (text, JSON, capture).

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

/// What an `end` record tells.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) time: Timestamp,
    pub(crate) reason: String,
    pub(crate) exit_code: u8,
}

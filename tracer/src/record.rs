//! The one stream: what tracer found out, live or from a file, as every sink
//! takes it (text, JSON, capture, metrics).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tracer_common::{Cause, Kind};

use crate::{
    capture::Gap,
    explain::{
        census::Scope,
        finding::{Census, QueueFinding},
    },
    model::{Failure, Netns, Process},
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
    /// The same by process or listener, those that failed most often first.
    pub(crate) by: Vec<By>,
    pub(crate) rows: Vec<Row>,
    /// What people call the namespaces of all.
    pub(crate) netns_names: BTreeMap<Netns, Arc<str>>,
    /// Drops counted while the kernel's counters were being read: a difference
    /// up to this says nothing.
    pub(crate) meanwhile: u64,
}

/// Failures of one process, or at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) netns: Netns,
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    /// Who called; of a listener who is responsible for it. `None`: not known, or, without
    /// a listener, not attributed to anybody.
    pub(crate) process: Option<Process>,
    /// Of drops.
    pub(crate) listener: Option<Listener>,
    /// Exactly.
    pub(crate) counted: u64,
    /// Those that became an event of their own.
    pub(crate) described: u64,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) inode: u64,
    pub(crate) local: Option<SocketAddr>,
}

impl Totals {
    /// What people call the namespace that has this inode number now.
    pub(crate) fn name_of(&self, inum: u32) -> Option<&Arc<str>> {
        let lives = Netns::of_inode(inum)..=Netns {
            inum,
            cookie: u64::MAX,
        };
        self.netns_names
            .range(lives)
            .next_back()
            .map(|(_, name)| name)
    }
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
            by: Vec::new(),
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

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
    host::plan::Purpose,
    model::{Failure, Netns, Process},
    probe::{self, Missed, Served},
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
    Verified(&'a Verified),
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
    /// Hooks that the kernel did not run each time.
    pub(crate) missed: Vec<Missed>,
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
            missed: Vec::new(),
        }
    }
}

/// What a `verified` record tells: what became of causing each failure once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) time: Timestamp,
    pub(crate) purposes: Vec<Checked>,
}

impl Verified {
    /// How many purposes are verified.
    pub(crate) fn verified(&self) -> usize {
        self.with(Status::Verified).count()
    }

    /// The purposes with this status.
    pub(crate) fn with(&self, status: Status) -> impl Iterator<Item = &Checked> {
        self.purposes.iter().filter(move |one| one.status == status)
    }

    /// The purposes that other hooks serve than at start.
    pub(crate) fn served(&self) -> impl Iterator<Item = Served> {
        self.purposes.iter().map(|one| Served {
            purpose: one.purpose,
            by: one.by.clone(),
            reason: one.reason.clone(),
        })
    }
}

/// Whether the hooks of a purpose see what they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) purpose: Purpose,
    pub(crate) status: Status,
    pub(crate) caused: u64,
    pub(crate) seen: u64,
    /// What serves it now.
    pub(crate) by: Option<probe::By>,
    /// Why it is not verified, what failed, or what was not checked.
    pub(crate) reason: Option<String>,
}

impl Checked {
    /// Nothing was caused; where no hook serves the purpose, that is why.
    pub(crate) fn not_verified(served: &Served, why: String) -> Self {
        let none = || match &served.reason {
            Some(reason) => format!("no hook serves it ({reason})"),
            None => "no hook serves it".to_owned(),
        };
        Self {
            purpose: served.purpose,
            status: Status::NotVerified,
            caused: 0,
            seen: 0,
            by: served.by.clone(),
            reason: Some(if served.by.is_some() { why } else { none() }),
        }
    }
}

/// See [`Checked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The hooks saw exactly what was caused.
    Verified,
    /// It could not be found out.
    NotVerified,
    /// They saw less, or more.
    Failed,
}

impl Status {
    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotVerified => "not_verified",
            Self::Failed => "failed",
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

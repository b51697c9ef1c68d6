//! Who fails, how often, since when? Rows of a table, in bounded memory. Pure.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
};

use jiff::Timestamp;
use tracer_common::{Cause, Kind};

use super::pulse::Pulse;
use crate::{
    explain::finding::{Census, QueueFinding},
    model::{Failure, Process},
    output::words,
};

/// Rows of one table. For one more, the row that was seen least lately is
/// forgotten, and that is counted.
pub(super) const ROWS: usize = 256;

/// Of one name, this many processes have rows of their own: a thousand
/// short-lived ones must not push everybody else out.
pub(super) const NAMESAKES: usize = 8;

/// Last failures of a row.
pub(super) const EVENTS: usize = 24;

/// Findings that a row waits for: failures come before what explains them.
const AWAITED: usize = 4;

/// What rows are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Process,
    Listener,
    Destination,
    /// Or systemd unit.
    Container,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [
        Self::Process,
        Self::Listener,
        Self::Destination,
        Self::Container,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Listener => "listener",
            Self::Destination => "destination",
            Self::Container => "container",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Process => 0,
            Self::Listener => 1,
            Self::Destination => 2,
            Self::Container => 3,
        }
    }
}

/// The name of a process as the kernel keeps it; enough to tell apart.
type Comm = [u8; 16];

/// What makes a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Process(u32, Comm),
    /// Those of a name beyond [`NAMESAKES`].
    Others(Comm),
    /// Nobody is known.
    Nobody,
    /// In a network namespace: the inode of a socket; where that is unknown, its
    /// address.
    Listener(u32, Result<u64, Option<SocketAddr>>),
    Destination(u32, SocketAddr),
    /// Runtime and id; or the unit.
    Container(Result<(Option<Cow<'static, str>>, String), String>),
}

impl Key {
    /// `None`: the failure has no place in such a table.
    fn of(failure: &Failure, group: Group) -> Option<Self> {
        match group {
            Group::Process => Some(match &failure.process {
                Some((process, _)) => Self::Process(process.pid, comm(process)),
                None => Self::Nobody,
            }),
            Group::Listener => failure.kind.is_drop().then(|| {
                let socket = failure.inode.filter(|inode| *inode != 0);
                Self::Listener(failure.netns, socket.ok_or(failure.local))
            }),
            Group::Destination => failure
                .remote
                .filter(|_| failure.kind == Kind::ConnectFailed)
                .map(|remote| Self::Destination(failure.netns, remote)),
            Group::Container => {
                let place = failure.process.as_ref()?.0.place.as_deref()?;
                let container = place.container.as_ref();
                let container = container.map(|it| Ok((it.runtime.clone(), it.id.clone())));
                container
                    .or_else(|| place.unit.clone().map(Err))
                    .map(Self::Container)
            }
        }
    }
}

fn comm(process: &Process) -> Comm {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(&process.comm) {
        *to = *from;
    }
    comm
}

/// A failure as a row remembers it: without processes but for a name.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) failure: Failure,
    pub(super) who: String,
}

impl Event {
    pub(super) fn new(failure: &Failure) -> Self {
        Self {
            failure: Failure {
                process: None,
                holders: Vec::new(),
                ..failure.clone()
            },
            who: words::process(failure),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    /// Printable.
    pub(super) name: String,
    /// Who is responsible, as last seen.
    pub(super) process: Option<Process>,
    pub(super) kinds: HashMap<Kind, u64>,
    pub(super) causes: HashMap<Cause, u64>,
    pub(super) total: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) pulse: Pulse,
    /// The newest first.
    pub(super) events: VecDeque<Rc<Event>>,
    pub(super) census: Option<Rc<Census>>,
    pub(super) queue: Option<Rc<QueueFinding>>,
    /// Why there is no census.
    pub(super) no_census: Option<String>,
    awaited: VecDeque<u64>,
}

impl Row {
    fn new(key: Key, failure: &Failure) -> Self {
        let name = match &key {
            Key::Process(..) => failure.process.as_ref().map(|(who, _)| words::name(who)),
            Key::Others(_) => {
                let process = failure.process.as_ref();
                process.map(|(who, _)| format!("{} (others)", words::printable(&who.comm)))
            }
            Key::Nobody => None,
            Key::Listener(..) => failure.local.map(|local| local.to_string()),
            Key::Destination(_, remote) => Some(remote.to_string()),
            Key::Container(it) => {
                let process = failure.process.as_ref().map(|(process, _)| process);
                let place = process.and_then(|process| process.place.as_deref());
                let container = place.and_then(|place| place.container.as_ref());
                let label = container.map(|container| container.label().to_owned());
                let label = label.or_else(|| it.as_ref().err().cloned());
                label.map(|label| words::printable(label.as_bytes()))
            }
        };
        Self {
            key,
            name: name.unwrap_or_else(|| "(unknown)".to_owned()),
            process: None,
            kinds: HashMap::new(),
            causes: HashMap::new(),
            total: 0,
            first: failure.time,
            last: failure.time,
            pulse: Pulse::default(),
            events: VecDeque::with_capacity(EVENTS),
            census: None,
            queue: None,
            no_census: None,
            awaited: VecDeque::with_capacity(AWAITED),
        }
    }

    fn note(&mut self, failure: &Failure, event: &Rc<Event>) {
        let count = failure.count;
        self.total = self.total.saturating_add(count);
        for sum in [
            self.kinds.entry(failure.kind).or_default(),
            self.causes.entry(failure.cause).or_default(),
        ] {
            *sum = sum.saturating_add(count);
        }
        self.last = self.last.max(failure.time);
        self.pulse.count(failure.time.as_second(), count);
        let process = failure.process.as_ref().map(|(process, _)| process);
        if let Some(process) = process
            && self.process.as_ref() != Some(process)
        {
            self.process = Some(process.clone());
        }
        self.events.truncate(EVENTS - 1);
        self.events.push_front(Rc::clone(event));
        for id in [failure.census, failure.queue].into_iter().flatten() {
            if self.awaited.front() != Some(&id) {
                self.awaited.retain(|awaited| *awaited != id);
                self.awaited.truncate(AWAITED - 1);
                self.awaited.push_front(id);
            }
        }
    }

    /// The cause of most failures, and how many other causes there are.
    pub(super) fn cause(&self) -> Option<(Cause, usize)> {
        let most = self
            .causes
            .iter()
            .max_by_key(|(cause, count)| (**count, cause.name()));
        most.map(|(cause, _)| (*cause, self.causes.len() - 1))
    }

    /// The last failure.
    pub(super) fn newest(&self) -> Option<&Failure> {
        self.events.front().map(|event| &event.failure)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) rows: HashMap<Key, Row>,
    /// Rows that had to make room, and failures in them.
    pub(super) forgotten: (u64, u64),
    /// Failures without a place in this table.
    pub(super) apart: u64,
}

impl Table {
    pub(super) fn note(&mut self, failure: &Failure, group: Group, event: &Rc<Event>) {
        let Some(key) = Key::of(failure, group) else {
            self.apart = self.apart.saturating_add(failure.count);
            return;
        };
        let key = self.seat(key);
        if !self.rows.contains_key(&key) {
            self.make_room();
        }
        let row = self.rows.entry(key.clone());
        row.or_insert_with(|| Row::new(key, failure))
            .note(failure, event);
    }

    /// Its own row, or that of all others of its name.
    fn seat(&self, key: Key) -> Key {
        let Key::Process(_, comm) = key else {
            return key;
        };
        if self.rows.contains_key(&key) {
            return key;
        }
        let is_namesake = |row: &&Key| matches!(row, Key::Process(_, other) if *other == comm);
        match self.rows.keys().filter(is_namesake).count() < NAMESAKES {
            true => key,
            false => Key::Others(comm),
        }
    }

    fn make_room(&mut self) {
        if self.rows.len() < ROWS {
            return;
        }
        let oldest = self.rows.values().min_by_key(|row| (row.last, row.total));
        if let Some(key) = oldest.map(|row| row.key.clone())
            && let Some(row) = self.rows.remove(&key)
        {
            self.forgotten.0 += 1;
            self.forgotten.1 = self.forgotten.1.saturating_add(row.total);
        }
    }

    pub(super) fn found_census(&mut self, census: &Rc<Census>) {
        for row in self.awaiting(census.id) {
            row.census = Some(Rc::clone(census));
            row.no_census = None;
        }
    }

    pub(super) fn found_none(&mut self, id: u64, why: &str) {
        for row in self.awaiting(id) {
            row.no_census = Some(why.to_owned());
        }
    }

    pub(super) fn found_queue(&mut self, finding: &Rc<QueueFinding>) {
        for row in self.awaiting(finding.id) {
            row.queue = Some(Rc::clone(finding));
        }
    }

    fn awaiting(&mut self, id: u64) -> impl Iterator<Item = &mut Row> {
        let rows = self.rows.values_mut();
        rows.filter(move |row| row.awaited.contains(&id))
    }

    /// Another run begins: its findings have the same numbers again.
    pub(super) fn expect_nothing(&mut self) {
        for row in self.rows.values_mut() {
            row.awaited.clear();
        }
    }
}

//! How full are the queues of the listeners, and how many ports are taken? Looked
//! for when somebody scrapes, but not often, and on a thread of its own: reading
//! every socket of a host takes a fraction of a second.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant as Later, timeout_at},
};

use crate::{
    host::memory,
    snapshot::{
        self,
        listeners::Listener,
        ports::{Destination, Table},
    },
};

/// At most so often.
const LISTENERS_EVERY: Duration = Duration::from_secs(10);
const PORTS_EVERY: Duration = Duration::from_secs(30);

/// Looks take at most one part in this many of one processor, each: the next one
/// waits for that.
const SHARE: u32 = 10;

/// A scrape waits this long for a look, then tells what was seen before.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listeners that are told, fullest first.
const TOLD_LISTENERS: usize = 200;

/// Network namespaces whose ports are told, and destinations of all of them
/// together: most exhausted first.
const TOLD_NAMESPACES: usize = 100;
const TOLD_DESTINATIONS: usize = 50;

/// What was seen.
#[derive(Debug)]
pub(super) struct Sight<T> {
    /// `None`: nothing could be seen.
    pub(super) found: Option<T>,
    pub(super) time: Timestamp,
    pub(super) took: Duration,
}

/// Listeners, fullest queue first.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) told: Vec<Listener>,
    /// How many there are beyond those.
    pub(super) more: usize,
}

/// Ports.
#[derive(Debug)]
pub(super) struct Ports {
    /// By namespace, without their destinations.
    pub(super) tables: Vec<Table>,
    /// Namespaces beyond those.
    pub(super) more: usize,
    /// The destinations of all, each with its namespace.
    pub(super) towards: Vec<(u32, Destination)>,
    /// Destinations beyond those.
    pub(super) more_destinations: usize,
}

#[derive(Clone, Copy)]
enum Wanted {
    Queues,
    Ports,
}

enum Seen {
    Queues(Sight<Queues>),
    Ports(Sight<Ports>),
}

/// One of the two, seen from those who scrape.
#[derive(Debug)]
pub(super) struct View<T> {
    /// The last one; `None`: none yet.
    pub(super) last: Option<Arc<Sight<T>>>,
    is_asked: bool,
    /// Before that no other is asked for.
    next: Option<Instant>,
}

impl<T> View<T> {
    pub(super) fn nothing_yet() -> Self {
        Self {
            last: None,
            is_asked: false,
            next: None,
        }
    }

    fn is_due(&self) -> bool {
        !self.is_asked && self.next.is_none_or(|next| Instant::now() >= next)
    }

    fn keep(&mut self, sight: Sight<T>, every: Duration) {
        self.is_asked = false;
        self.next = Some(Instant::now() + every.max(sight.took * SHARE));
        self.last = Some(Arc::new(sight));
    }
}

/// The thread, seen from outside, and what it saw.
#[derive(Debug)]
pub(super) struct Looker {
    wanted: Sender<Wanted>,
    seen: UnboundedReceiver<Seen>,
    pub(super) queues: View<Queues>,
    pub(super) ports: View<Ports>,
}

impl Looker {
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start() -> Result<Self> {
        let (wanted, incoming) = mpsc::channel();
        let (outgoing, seen) = unbounded_channel();
        thread::Builder::new()
            .name("tracer-look".into())
            .spawn(move || work(&incoming, &outgoing))
            .context("the thread that looks at listeners and ports cannot be started")?;
        Ok(Self {
            wanted,
            seen,
            queues: View::nothing_yet(),
            ports: View::nothing_yet(),
        })
    }

    /// Looks again where that is due.
    pub(super) async fn look(&mut self) {
        if self.queues.is_due() {
            self.queues.is_asked = self.wanted.send(Wanted::Queues).is_ok();
        }
        if self.ports.is_due() {
            self.ports.is_asked = self.wanted.send(Wanted::Ports).is_ok();
        }
        let deadline = Later::now() + PATIENCE;
        while self.queues.is_asked || self.ports.is_asked {
            match timeout_at(deadline, self.seen.recv()).await {
                Ok(Some(Seen::Queues(sight))) => self.queues.keep(sight, LISTENERS_EVERY),
                Ok(Some(Seen::Ports(sight))) => self.ports.keep(sight, PORTS_EVERY),
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fn work(wanted: &Receiver<Wanted>, seen: &UnboundedSender<Seen>) {
    // Ends when the other side of either channel is gone.
    while let Ok(wanted) = wanted.recv() {
        let sight = match wanted {
            Wanted::Queues => Seen::Queues(sight(queues)),
            Wanted::Ports => Seen::Ports(sight(ports)),
        };
        memory::give_back();
        if seen.send(sight).is_err() {
            return;
        }
    }
}

fn sight<T>(look: impl FnOnce() -> Option<T>) -> Sight<T> {
    let (time, begun) = (Timestamp::now(), Instant::now());
    let found = look();
    Sight {
        found,
        time,
        took: begun.elapsed(),
    }
}

fn queues() -> Option<Queues> {
    let (told, more) = snapshot::fullest(TOLD_LISTENERS).ok()?;
    Some(Queues { told, more })
}

fn ports() -> Option<Ports> {
    Some(most_exhausted(snapshot::tables(TOLD_DESTINATIONS).ok()?))
}

/// As many as are told. `tables`: most exhausted first.
fn most_exhausted(mut tables: Vec<Table>) -> Ports {
    let more = tables.len().saturating_sub(TOLD_NAMESPACES);
    let all: usize = tables.iter().map(|table| table.destination_count).sum();
    tables.truncate(TOLD_NAMESPACES);
    let mut towards = Vec::new();
    for table in &mut tables {
        let usable = u64::from(table.tcp.range.usable).max(1);
        for one in std::mem::take(&mut table.destinations) {
            let fill = u64::from(one.used) * 1_000_000 / usable;
            towards.push((fill, table.place.netns, one));
        }
    }
    towards.sort_by_key(|(fill, ..)| Reverse(*fill));
    towards.truncate(TOLD_DESTINATIONS);
    let towards: Vec<_> = towards
        .into_iter()
        .map(|(_, netns, one)| (netns, one))
        .collect();
    Ports {
        more,
        more_destinations: all.saturating_sub(towards.len()),
        tables,
        towards,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        explain::{census::Account, finding::Range},
        snapshot::{places::Place, ports::Destination},
    };

    fn table(netns: u32, used: &[u32]) -> Table {
        let range = Range {
            low: 1,
            high: 100,
            is_own: false,
            reserved: 0,
            usable: 100,
        };
        let towards = |port, used| Destination {
            source: [10, 0, 0, 1].into(),
            remote: ([10, 0, 0, 2], port).into(),
            own: used,
            used,
            free: 100 - used,
            parts: Vec::new(),
            holders: Vec::new(),
        };
        Table {
            place: Place { netns, name: None },
            tcp: Account {
                range,
                parts: Vec::new(),
                holders: Vec::new(),
                free: 100,
            },
            unavailable: 0,
            destinations: (1..)
                .zip(used)
                .map(|(port, used)| towards(port, *used))
                .collect(),
            destination_count: used.len() + 7,
            servers_time_wait: 0,
            udp: None,
            sockets: 0,
        }
    }

    #[test]
    fn the_most_exhausted_are_told() {
        let one: Vec<u32> = (0..40).rev().collect();
        let other: Vec<u32> = (30..70).rev().collect();
        let ports = most_exhausted(vec![table(1, &one), table(2, &other)]);
        let told: Vec<_> = ports
            .towards
            .iter()
            .map(|(netns, one)| (*netns, one.used))
            .collect();
        assert_eq!(told.len(), 50);
        assert_eq!((told[0], told[30], told[49]), ((2, 69), (1, 39), (2, 30)));
        assert_eq!((ports.more, ports.more_destinations), (0, 44));
        let many = (0..150).map(|netns| table(netns, &[1])).collect();
        let ports = most_exhausted(many);
        assert_eq!((ports.tables.len(), ports.more), (100, 50));
        assert_eq!(
            (ports.towards.len(), ports.more_destinations),
            (50, 150 * 8 - 50)
        );
    }

    #[test]
    fn looks_keep_their_distance() {
        let mut view = View::<()>::nothing_yet();
        assert!(view.is_due());
        let sight = |seconds| Sight {
            found: None,
            time: Timestamp::UNIX_EPOCH,
            took: Duration::from_secs(seconds),
        };
        let wait = |view: &View<()>| view.next.map(|next| next.duration_since(Instant::now()));
        view.keep(sight(0), PORTS_EVERY);
        assert!(!view.is_due() && wait(&view) > Some(Duration::from_secs(29)));
        view.keep(sight(60), PORTS_EVERY);
        assert!(wait(&view) > Some(Duration::from_secs(599)));
    }
}

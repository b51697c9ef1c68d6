//! What happened to one listener since it began to drop?

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;
use tracer_common::Kind;

use super::{
    Acked, CALM, Draft, PERIOD, QUIET, apart,
    rates::{Rates, Sample},
};
use crate::{
    explain::finding::{Accepts, QueueFinding, Settings},
    model::{Failure, Queue},
};

/// The drops of one listener that are less than [`super::CALM`] apart.
pub(super) struct Episode {
    /// Numbers so far; rates are filled in when it is told.
    finding: QueueFinding,
    /// The highest count of accepts that a drop came with.
    accepts_seen: Option<u64>,
    /// The highest count of failed accepts.
    failures_seen: Option<u64>,
    /// Peers dropped that were not remembered.
    fresh: u64,
    rates: Rates,
    /// Who was dropped, and with its final ACK dropped.
    peers: HashMap<SocketAddr, Option<Acked>>,
    /// When it was told last; before that: when it began.
    told: Timestamp,
    /// How long after that it is told again, if it goes on.
    wait: Duration,
    has_news: bool,
}

impl Episode {
    /// An episode that begins with `failure`, which is yet to be noted.
    pub(super) fn new(id: u64, failure: &Failure) -> Self {
        const NOT_SEEN: Queue = Queue { len: 0, max: 0 };
        Self {
            finding: QueueFinding {
                id,
                time: failure.time,
                netns: failure.netns,
                netns_cookie: failure.netns_cookie,
                netns_name: failure.netns_name.clone(),
                local: failure.local,
                inode: failure.inode.unwrap_or_default(),
                cause: failure.cause,
                process: None,
                holders: Vec::new(),
                since: failure.time,
                until: failure.time,
                accept_queue: NOT_SEEN,
                request_queue: NOT_SEEN,
                asked: None,
                syn_drops: 0,
                ack_drops: 0,
                resets: 0,
                connections: 0,
                connections_capped: false,
                arrivals_per_s: None,
                accepts_per_s: None,
                accepts: None,
                accept_failures: 0,
                accept_errno: None,
                disagreement: None,
                ghosts: Vec::new(),
                ghost_count: 0,
                settings: Settings::default(),
                advice: Vec::new(),
            },
            accepts_seen: None,
            failures_seen: None,
            fresh: 0,
            rates: Rates::new(),
            peers: HashMap::new(),
            told: failure.time,
            wait: PERIOD,
            has_news: false,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.finding.id
    }

    /// The last drop.
    pub(super) fn until(&self) -> Timestamp {
        self.finding.until
    }

    /// How many peers are remembered.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Whether there were drops since it was told.
    pub(super) fn has_news(&self) -> bool {
        self.has_news
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let since_told = apart(self.told, now);
        let is_quiet = apart(self.until(), now) >= QUIET && since_told >= PERIOD;
        self.has_news && (since_told >= self.wait || is_quiet)
    }

    pub(super) fn note(&mut self, failure: &Failure, accepts: Accepts) {
        let finding = &mut self.finding;
        self.has_news = true;
        finding.since = finding.since.min(failure.time);
        finding.until = finding.until.max(failure.time);
        finding.cause = failure.cause;
        finding.local = common(finding.local, failure.local);
        finding.accept_queue = failure.accept_queue.unwrap_or(finding.accept_queue);
        finding.request_queue = failure.request_queue.unwrap_or(finding.request_queue);
        finding.asked = failure.asked;
        self.count(failure);
        let finding = &mut self.finding;
        // Compared first: they rarely change, and copying a prefork server's
        // workers for every drop costs.
        if let Some((process, _)) = &failure.process
            && finding.process.as_ref() != Some(process)
        {
            finding.process = Some(process.clone());
        }
        if !failure.holders.is_empty() && finding.holders != failure.holders {
            finding.holders.clone_from(&failure.holders);
        }
        self.note_accepts(accepts.returned);
        self.note_accept_failures(accepts);
        if let Some(peer) = failure.remote {
            self.note_peer(peer, failure);
        }
        self.rates.note(Sample {
            time: failure.time,
            accepted: self.finding.accepts,
            waiting: self.finding.accept_queue.len,
            fresh: self.fresh,
        });
    }

    /// Drops of which nothing is known but how many there were.
    pub(super) fn add(&mut self, drops: &Failure) {
        self.has_news = true;
        self.finding.until = self.finding.until.max(drops.time);
        self.count(drops);
    }

    fn count(&mut self, failure: &Failure) {
        let finding = &mut self.finding;
        let drops = match failure.kind {
            Kind::SynDropped => Some(&mut finding.syn_drops),
            Kind::AckDropped => Some(&mut finding.ack_drops),
            Kind::OverflowReset => Some(&mut finding.resets),
            Kind::ConnectFailed | Kind::BindFailed | Kind::ListenFailed => None,
        };
        if let Some(drops) = drops {
            *drops = drops.saturating_add(failure.count);
        }
    }

    /// Adds what was accepted since the last drop. Drops of two CPUs come a
    /// little out of order, so a count somewhat lower than the last is an older
    /// one; one that is lower by more than half has begun anew.
    fn note_accepts(&mut self, accepts: Option<u64>) {
        let Some(count) = accepts else { return };
        let seen = self.accepts_seen.unwrap_or(count);
        let total = self.finding.accepts.get_or_insert(0);
        if count >= seen {
            *total += count - seen;
        } else if count < seen / 2 {
            *total += count;
        } else {
            return;
        }
        self.accepts_seen = Some(count);
    }

    /// Adds the calls of `accept()` that failed since the last drop.
    fn note_accept_failures(&mut self, accepts: Accepts) {
        let seen = self.failures_seen.unwrap_or(accepts.failed);
        // Drops of two CPUs come a little out of order.
        let more = accepts.failed.saturating_sub(seen);
        self.failures_seen = Some(seen.max(accepts.failed));
        self.finding.accept_failures += more;
        if more > 0 {
            self.finding.accept_errno = Some(accepts.errno);
        }
    }

    fn note_peer(&mut self, peer: SocketAddr, failure: &Failure) {
        let acked = Acked {
            peer,
            first: failure.time,
            last: failure.time,
            is_cookie: failure.syncookie,
        };
        // Who sends a SYN tries anew, and who was reset knows.
        let acked = (failure.kind == Kind::AckDropped).then_some(acked);
        match self.peers.entry(peer) {
            Entry::Occupied(mut known) => {
                let first = known.get().map(|known| known.first);
                known.insert(acked.map(|acked| Acked {
                    first: first.unwrap_or(acked.first),
                    ..acked
                }));
            }
            Entry::Vacant(new) => {
                new.insert(acked);
                self.fresh += 1;
                // What was forgotten may come again, so the count ends there.
                if !self.finding.connections_capped {
                    self.finding.connections += 1;
                }
            }
        }
    }

    /// Forgets at least half of the peers; those last whose final ACK was
    /// dropped: a flood has none.
    pub(super) fn forget_peers(&mut self) {
        let before = self.peers.len();
        self.peers.retain(|_, acked| acked.is_some());
        if self.peers.len() > before / 2 {
            self.peers.clear();
        }
        self.peers.shrink_to_fit();
        self.finding.connections_capped = true;
    }

    /// The finding as of `now`.
    pub(super) fn tell(&mut self, now: Timestamp) -> Draft {
        self.told = now;
        self.wait = CALM.min(self.wait * 2);
        self.has_news = false;
        self.finding.time = now;
        self.finding.arrivals_per_s = self.rates.arrivals();
        self.finding.accepts_per_s = self.rates.accepts();
        let mut acked: Vec<_> = self.peers.values().copied().flatten().collect();
        acked.sort_unstable_by_key(|acked| acked.peer);
        Draft {
            finding: self.finding.clone(),
            acked,
        }
    }
}

/// The address of a listener that gets packets for both. A drop tells where the
/// packet was sent to; for two addresses, the listener has the wildcard.
fn common(one: Option<SocketAddr>, other: Option<SocketAddr>) -> Option<SocketAddr> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other);
    };
    let is_v4 = one.is_ipv4() && other.is_ipv4();
    let wildcard = if is_v4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let ip = if one.ip() == other.ip() {
        one.ip()
    } else {
        wildcard
    };
    Some(SocketAddr::new(ip, one.port()))
}

//! What do a listener's queue drops add up to? Pure: time comes in with the
//! drops and with the question.
//!
//! Drops are per segment, and one client that tries again is dropped again. So
//! the drops of a listener are gathered into episodes; each is told as it goes
//! on, under one number, until the listener has been calm for a while.

mod episode;
mod rates;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, mem, net::SocketAddr, time::Duration};

use jiff::Timestamp;

use super::finding::{Accepts, QueueFinding};
use crate::model::{Failure, Netns};
use episode::Episode;

/// Drops this far apart belong to different episodes. A client whose SYN is
/// dropped tries again after 1, 2, 4, 8 and 16 s, and a server whose final ACK
/// was dropped sends its SYN-ACK again at the same pace: this bridges the gaps
/// up to 8 s, so that one client that keeps failing for a quarter of a minute is
/// one episode. Longer gaps are left apart: an episode claims that the queue was
/// full all the while, and more than this without a drop says little for that.
pub(crate) const CALM: Duration = Duration::from_secs(10);

/// An episode is told first when it is this old, and then, while it goes on,
/// after twice as long each time, up to [`CALM`].
const PERIOD: Duration = Duration::from_secs(1);

/// When it seems to be over, it is told without waiting for that.
const QUIET: Duration = Duration::from_secs(2);

/// Listeners that are followed at once. One more displaces the one that has
/// been calm for longest.
const LISTENERS: usize = 256;

/// Peers that are remembered, those of all listeners together: a flood of SYNs
/// with made-up sources takes some 15 MB at most.
const PEERS: usize = 1 << 16;

/// A finding without what only the host can add: ghosts, settings, advice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draft {
    pub(crate) finding: QueueFinding,
    /// Peers whose final ACK was dropped in this episode and who have neither
    /// been reset nor sent a SYN since, by address. Not more than [`PEERS`].
    pub(crate) acked: Vec<Acked>,
}

/// A peer whose final ACK was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) peer: SocketAddr,
    /// When first and when last.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// The handshake used a syncookie, so that the server remembers nothing.
    pub(crate) is_cookie: bool,
}

/// The namespace and the listener in it. Listeners of a `SO_REUSEPORT` group
/// have an inode each.
type Key = (Netns, Socket);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Socket {
    Inode(u64),
    /// Where no inode is known.
    Address(Option<SocketAddr>),
}

fn key(failure: &Failure) -> Key {
    let socket = match failure.inode {
        Some(inode) => Socket::Inode(inode),
        None => Socket::Address(failure.local),
    };
    (failure.life(), socket)
}

/// Time between two moments in either order: events of two CPUs come a little
/// out of order, and the wall clock can be set.
fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.duration_since(other).unsigned_abs()
}

/// The episodes that go on.
pub(crate) struct Queues {
    episodes: HashMap<Key, Episode>,
    /// Of episodes that ended before they were told; not more than
    /// [`LISTENERS`].
    ended: Vec<Draft>,
    /// At least this many peers may still be remembered.
    room: usize,
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self {
            episodes: HashMap::new(),
            ended: Vec::new(),
            room: PEERS,
        }
    }

    /// Notes a drop; the id of the finding that its episode is told under.
    /// Of `accepts` only differences count. `next_id` is asked only when an episode begins.
    pub(crate) fn note(
        &mut self,
        drop: &Failure,
        accepts: Accepts,
        next_id: impl FnOnce() -> u64,
    ) -> u64 {
        let key = key(drop);
        match self.episodes.get(&key) {
            Some(episode) if apart(episode.until(), drop.time) < CALM => {}
            Some(_) => self.end(key),
            None if self.episodes.len() >= LISTENERS => self.end_calmest(),
            None => {}
        }
        if self.room == 0 {
            self.make_room();
        }
        let episode = self
            .episodes
            .entry(key)
            .or_insert_with(|| Episode::new(next_id(), drop));
        let before = episode.peers();
        episode.note(drop, accepts);
        self.room -= episode.peers() - before;
        episode.id()
    }

    /// Adds drops that were counted and not described one by one to the episode of their
    /// listener; its id. `None`: there is none, because none of them was described.
    pub(crate) fn add(&mut self, drops: &Failure) -> Option<u64> {
        let episode = self.episodes.get_mut(&key(drops))?;
        episode.add(drops);
        Some(episode.id())
    }

    /// The findings that are due: of an episode the first a second after its
    /// first drop, then ever less often, each only if there were drops that have
    /// not been told. Numbers are those since the episode began, so a later
    /// finding replaces an earlier one with the same id.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<Draft> {
        let drafts = self.tell(now, |episode| episode.is_due(now));
        self.episodes
            .retain(|_, episode| episode.has_news() || apart(episode.until(), now) < CALM);
        drafts
    }

    /// Whatever has not been told yet.
    pub(crate) fn finish(&mut self, now: Timestamp) -> Vec<Draft> {
        self.tell(now, Episode::has_news)
    }

    fn tell(&mut self, now: Timestamp, is_wanted: impl Fn(&Episode) -> bool) -> Vec<Draft> {
        let mut drafts = mem::take(&mut self.ended);
        for draft in &mut drafts {
            draft.finding.time = now;
        }
        let wanted = self.episodes.values_mut().filter(|it| is_wanted(it));
        drafts.extend(wanted.map(|episode| episode.tell(now)));
        drafts.sort_by_key(|draft| draft.finding.id);
        drafts
    }

    /// Ends an episode; what it has not told is kept.
    fn end(&mut self, key: Key) {
        if let Some(mut episode) = self.episodes.remove(&key)
            && episode.has_news()
            && self.ended.len() < LISTENERS
        {
            let draft = episode.tell(episode.until());
            self.ended.push(draft);
        }
    }

    fn end_calmest(&mut self) {
        let calmest = self.episodes.iter().min_by_key(|(_, it)| it.until());
        if let Some((&key, _)) = calmest {
            self.end(key);
        }
    }

    /// Recounts the peers, and if there is no room for one more makes the
    /// listener with most of them forget: that is the one that is flooded, so
    /// the others stay exact.
    fn make_room(&mut self) {
        let peers = |queues: &Self| queues.episodes.values().map(Episode::peers).sum();
        if PEERS <= peers(self)
            && let Some(most) = self.episodes.values_mut().max_by_key(|it| it.peers())
        {
            most.forget_peers();
        }
        self.room = PEERS.saturating_sub(peers(self));
    }
}

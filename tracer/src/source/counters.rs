//! The kernel side's exact counters, summed over CPUs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::AddAssign,
};

use anyhow::{Context, Result};
use aya::maps::{Array, MapError, PerCpuArray, PerCpuHashMap};
use tracer_common::{Cause, CountKey, Kind, UNDECIDED, fold, request_limit, slot};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    model::Netns,
    probe::{Owned, Probe},
};

/// What was counted: by namespace, kind and cause.
pub(crate) type Counts = BTreeMap<(Netns, Kind, Cause), u64>;

/// How many of them are listen-queue drops.
pub(crate) fn drops(counts: &Counts) -> u64 {
    counts
        .iter()
        .filter(|((_, kind, _), _)| kind.is_drop())
        .map(|(_, count)| count)
        .sum()
}

/// Whose failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Party {
    /// A caller: process id, and when it started, nanoseconds of `CLOCK_BOOTTIME`.
    Process(u32, u64),
    /// A listener: the inode number of its socket.
    Listener(u64),
    /// Not attributed: the kernel side's table was full.
    Nobody,
}

/// What failed, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) netns: Netns,
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    pub(crate) party: Party,
}

impl Key {
    /// `None`: a kind or cause that this program does not know.
    pub(crate) fn of(raw: &CountKey) -> Option<Self> {
        let kind = Kind::from_u8(raw.kind)?;
        let cause = match raw.cause {
            UNDECIDED => Cause::RequestQueueFull,
            cause => Cause::from_u8(cause)?,
        };
        Some(Self {
            netns: Netns {
                inum: raw.netns,
                cookie: raw.netns_cookie,
            },
            kind,
            cause,
            party: match (raw.tgid, raw.party) {
                (0, 0) => Party::Nobody,
                (0, inode) if kind.is_drop() => Party::Listener(inode),
                (pid, start) => Party::Process(pid, start),
            },
        })
    }

    fn raw(&self) -> CountKey {
        let Netns { inum, cookie } = self.netns;
        let (tgid, party) = match self.party {
            Party::Process(pid, start) => (pid, start),
            Party::Listener(inode) => (0, inode),
            Party::Nobody => (0, 0),
        };
        CountKey {
            tgid,
            party,
            ..CountKey::new(inum, cookie, self.kind, self.cause)
        }
    }
}

/// Failures of one [`Key`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) counted: u64,
    /// Those that were wanted, and not described one by one.
    pub(crate) undescribed: u64,
    /// Those that the kernel side's filter leaves out.
    pub(crate) filtered: u64,
    /// What calls were about.
    pub(crate) about: About,
}

/// The address that the failed calls of a [`Key`] were about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum About {
    /// They were none.
    #[default]
    Nothing,
    /// One address, as [`tracer_common::fold`] has it.
    One(u64),
    Several,
}

impl About {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Nothing) => one,
            (Self::Nothing, other) => other,
            (Self::One(one), Self::One(other)) if one == other => self,
            _ => Self::Several,
        }
    }

    /// Whether all of them were about this address.
    pub(crate) fn is(self, address: SocketAddr) -> bool {
        let mut ip = [0; 16];
        match address.ip() {
            IpAddr::V4(v4) => ip[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => ip = v6.octets(),
        }
        self == Self::One(fold(&ip, address.port()))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.counted += more.counted;
        self.undescribed += more.undescribed;
        self.filtered += more.filtered;
        self.about = self.about.and(more.about);
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    pub(crate) by: BTreeMap<Key, Tally>,
    /// Of those that [`Counters::hide`] leaves out.
    pub(crate) hidden: BTreeMap<Key, Tally>,
    /// Namespaces in which nothing else failed.
    pub(crate) hidden_places: BTreeSet<Netns>,
    /// Failures for which no table had room.
    pub(crate) unplaced: Tally,
}

impl Tallies {
    /// By namespace, kind and cause.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (key, tally) in &self.by {
            *counts.entry((key.netns, key.kind, key.cause)).or_default() += tally.counted;
        }
        counts
    }

    /// The same, with what is hidden: the kernel counts that, too.
    pub(crate) fn counts_with_hidden(&self) -> Counts {
        let mut counts = self.counts();
        for (key, tally) in &self.hidden {
            *counts.entry((key.netns, key.kind, key.cause)).or_default() += tally.counted;
        }
        counts
    }

    /// Everything together.
    pub(crate) fn all(&self) -> Tally {
        let mut all = self.unplaced;
        for tally in self.by.values() {
            all += *tally;
        }
        all
    }

    /// Failures of nobody, because the table was full.
    pub(crate) fn unattributed(&self) -> u64 {
        let nobody = self.by.iter().filter(|(key, _)| key.party == Party::Nobody);
        nobody.map(|(_, tally)| tally.counted).sum()
    }
}

/// Counters about tracer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Failures counted.
    pub(crate) counted: u64,
    /// Failures that became an event of their own.
    pub(crate) described: u64,
    /// Failures that are in an event with others like them: too many at once.
    pub(crate) summed: u64,
    /// Failures left out, because they were not asked for.
    pub(crate) filtered: u64,
    /// Failures counted for no process and no listener, because the table was full.
    pub(crate) unattributed: u64,
    /// Failures counted here only, because the table of namespaces was full.
    pub(crate) unplaced: u64,
    /// SYNs about which nothing could be said.
    pub(crate) unjudged: u64,
    /// Failures that were counted and will be in an event with others within a second.
    pub(crate) waiting: u64,
}

impl Health {
    /// Failures that are in no event.
    pub(crate) fn lost(&self) -> u64 {
        let known = self.described.saturating_add(self.filtered);
        self.counted
            .saturating_sub(known)
            .saturating_sub(self.summed)
            .saturating_sub(self.waiting)
    }

    /// Both together.
    pub(crate) fn and(self, more: Self) -> Self {
        Self {
            counted: self.counted.saturating_add(more.counted),
            described: self.described.saturating_add(more.described),
            summed: self.summed.saturating_add(more.summed),
            filtered: self.filtered.saturating_add(more.filtered),
            unattributed: self.unattributed.saturating_add(more.unattributed),
            unplaced: self.unplaced.saturating_add(more.unplaced),
            unjudged: self.unjudged.saturating_add(more.unjudged),
            waiting: self.waiting.saturating_add(more.waiting),
        }
    }

    /// The same, if `hidden` of those that were described are left out here.
    pub(crate) fn without(self, hidden: u64) -> Self {
        Self {
            described: self.described.saturating_sub(hidden),
            filtered: self.filtered.saturating_add(hidden),
            ..self
        }
    }
}

/// Reads the counters.
pub(crate) struct Counters {
    // Plain arrays: the types are ours, and aya's `Pod` cannot be implemented for a
    // type of another crate.
    counts: Table,
    unattributed: Table,
    unplaced: PerCpuArray<Owned, Words>,
    health: PerCpuArray<Owned, u64>,
    request_limit: Array<Owned, u32>,
    /// This kernel drops a SYN that finds the request queue exactly at its limit, with
    /// syncookies off: [`tracer_common::request_limit`].
    drops_at_limit: bool,
    /// Counters of processes and listeners that are gone, and have made room.
    gone: BTreeMap<Key, Tally>,
    /// How many keys were taken out of `counts`.
    removed: u64,
    /// Of whom nobody is to see anything.
    hidden: BTreeSet<(Netns, Party)>,
    /// Where those were whose counters were thrown away.
    over: BTreeSet<Netns>,
}

/// So many are hidden at once; of those before, counters are thrown away.
const HIDDEN: usize = 1024;

/// So many namespaces are remembered of those.
const OVER: usize = 4096;

type Table = PerCpuHashMap<Owned, [u8; size_of::<CountKey>()], Words>;

/// A [`tracer_common::Tally`].
type Words = [u64; 6];

const _: () = assert!(size_of::<tracer_common::Tally>() == size_of::<Words>());

/// Sums the counters of all CPUs.
fn sum(values: impl IntoIterator<Item = Words>) -> Tally {
    let mut sum = Tally::default();
    for words in values {
        if let Ok(one) = tracer_common::Tally::read_from_bytes(words.as_bytes()) {
            sum += Tally {
                counted: one.counted,
                undescribed: one.undescribed,
                filtered: one.filtered,
                about: match (one.has_several, one.address) {
                    (0, 0) => About::Nothing,
                    (0, address) => About::One(address),
                    _ => About::Several,
                },
            };
        }
    }
    sum
}

/// Adds those entries of a table to `by` that are wanted.
fn add(
    table: &Table,
    by: &mut BTreeMap<Key, Tally>,
    is_wanted: impl Fn(&CountKey) -> bool,
) -> Result<()> {
    for key in table.keys() {
        let bytes = key.context("the counters cannot be listed")?;
        let values = match table.get(&bytes, 0) {
            Ok(values) => values,
            Err(MapError::KeyNotFound) => continue,
            Err(error) => return Err(error).context("the counters cannot be read"),
        };
        let key = CountKey::read_from_bytes(&bytes).ok().filter(&is_wanted);
        if let Some(key) = key.as_ref().and_then(Key::of) {
            *by.entry(key).or_default() += sum(values.iter().copied());
        }
    }
    Ok(())
}

impl Counters {
    /// # Errors
    /// The object lacks the maps.
    pub(crate) fn new(probe: &mut Probe) -> Result<Self> {
        Ok(Self {
            counts: probe.take_map("COUNTS")?,
            unattributed: probe.take_map("UNATTRIBUTED")?,
            unplaced: probe.take_map("UNPLACED")?,
            health: probe.take_map("HEALTH")?,
            request_limit: probe.take_map("REQUEST_LIMIT")?,
            drops_at_limit: false,
            gone: BTreeMap::new(),
            removed: 0,
            hidden: BTreeSet::new(),
            over: BTreeSet::new(),
        })
    }

    /// # Errors
    /// The kernel refuses to read the maps.
    pub(crate) fn tallies(&self) -> Result<Tallies> {
        let mut by = self.gone.clone();
        // Until it is known that these SYNs were dropped, they were accepted.
        let is_decided = |key: &CountKey| key.cause != UNDECIDED || self.drops_at_limit;
        add(&self.counts, &mut by, is_decided)?;
        add(&self.unattributed, &mut by, is_decided)?;
        let hidden = match self.hidden.is_empty() {
            true => BTreeMap::new(),
            false => by
                .extract_if(.., |key, _| self.hidden.contains(&(key.netns, key.party)))
                .collect(),
        };
        let places = hidden.keys().map(|key: &Key| key.netns);
        let mut hidden_places: BTreeSet<_> = places.chain(self.over.iter().copied()).collect();
        if !hidden_places.is_empty() {
            for key in by.keys() {
                hidden_places.remove(&key.netns);
            }
        }
        let unplaced = self.unplaced.get(&0, 0);
        let unplaced = unplaced.context("the counters cannot be read")?;
        Ok(Tallies {
            by,
            hidden,
            hidden_places,
            unplaced: sum(unplaced.iter().copied()),
        })
    }

    /// Of each namespace, how many SYNs were undecided.
    ///
    /// # Errors
    /// The kernel refuses to read the maps.
    pub(crate) fn undecided(&self) -> Result<BTreeMap<Netns, u64>> {
        let mut by = BTreeMap::new();
        for table in [&self.counts, &self.unattributed] {
            add(table, &mut by, |key| key.cause == UNDECIDED)?;
        }
        let mut undecided = BTreeMap::new();
        for (key, tally) in by {
            *undecided.entry(key.netns).or_default() += tally.counted;
        }
        Ok(undecided)
    }

    /// Leaves a process, or a listener, of a namespace out of everything but the comparison
    /// with the kernel's counters.
    pub(crate) fn hide(&mut self, netns: Netns, party: Party) {
        if self.hidden.len() >= HIDDEN {
            self.throw_hidden_away();
        }
        self.hidden.insert((netns, party));
    }

    /// Counters of whom is hidden: most of them are over by now.
    fn throw_hidden_away(&mut self) {
        let hidden = std::mem::take(&mut self.hidden);
        let is_hidden = |bytes: &[u8; size_of::<CountKey>()]| {
            let key = CountKey::read_from_bytes(bytes).ok();
            let key = key.as_ref().and_then(Key::of);
            key.is_some_and(|key| hidden.contains(&(key.netns, key.party)))
        };
        let over: Vec<_> = self.counts.keys().flatten().filter(is_hidden).collect();
        for key in over {
            // One that stays is seen again with the next of its kind.
            if remove(&mut self.counts, &key).is_ok() {
                self.removed += 1;
            }
        }
        self.gone
            .retain(|key, _| !hidden.contains(&(key.netns, key.party)));
        // Without a cookie, another namespace may be meant later.
        let places = hidden.iter().map(|(netns, _)| *netns);
        self.over.extend(places.filter(|netns| netns.cookie != 0));
        while self.over.len() > OVER {
            self.over.pop_first();
        }
    }

    /// Whether it is known what this kernel does at the limit of the request queue.
    pub(crate) fn knows_request_limit(&self) -> bool {
        let rule = self.request_limit.get(&0, 0).unwrap_or_default();
        rule != request_limit::UNKNOWN
    }

    /// It is known what this kernel does at the limit of the request queue: the undecided
    /// SYNs were accepted or dropped, and so will others be.
    pub(crate) fn set_request_limit(&mut self, rule: u32) {
        self.drops_at_limit = rule == request_limit::DROPS;
        // Where the map cannot be written any more (--drop-all on some kernels), SYNs go on
        // to be undecided, and are taken here for what was found out.
        let _ = self.request_limit.set(0, rule, 0);
    }

    /// By namespace, kind and cause.
    ///
    /// # Errors
    /// The kernel refuses to read the maps.
    pub(crate) fn counts(&self) -> Result<Counts> {
        Ok(self.tallies()?.counts())
    }

    fn slot(&self, index: u32) -> Result<u64> {
        let values = self.health.get(&index, 0);
        let values = values.context("tracer's counters cannot be read")?;
        Ok(values.iter().sum())
    }

    /// How many failures were wanted and not described: cheap to ask.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn undescribed(&self) -> Result<u64> {
        self.slot(slot::UNDESCRIBED)
    }

    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn unjudged(&self) -> Result<u64> {
        self.slot(slot::UNJUDGED)
    }

    /// How many processes and listeners have counters of their own, about.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn keys(&self) -> Result<u64> {
        Ok(self.slot(slot::KEYS)?.saturating_sub(self.removed))
    }

    /// Makes room in the kernel side's table: what `is_gone` says will never fail again
    /// is remembered here. The sum of those that fail `is_known` stays, their names do not.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn make_room(&mut self, is_gone: impl Fn(&Key) -> bool) -> Result<()> {
        let mut all = BTreeMap::new();
        add(&self.counts, &mut all, |key| key.cause != UNDECIDED)?;
        for key in all.into_keys().filter(|key| is_gone(key)) {
            let mut bytes = [0; size_of::<CountKey>()];
            bytes.copy_from_slice(key.raw().as_bytes());
            // Read again: it was found gone after the first reading.
            let Ok(values) = self.counts.get(&bytes, 0) else {
                continue;
            };
            let last = sum(values.iter().copied());
            if remove(&mut self.counts, &bytes).is_ok() {
                self.removed += 1;
                *self.gone.entry(key).or_default() += last;
            }
        }
        self.forget_smallest();
        Ok(())
    }

    /// Who is gone and failed least is remembered as nobody.
    fn forget_smallest(&mut self) {
        if self.gone.len() <= GONE {
            return;
        }
        let mut by_weight: Vec<_> = self
            .gone
            .iter()
            .filter(|(key, _)| key.party != Party::Nobody)
            .map(|(key, tally)| (tally.counted, *key))
            .collect();
        by_weight.sort_unstable();
        for (_, key) in by_weight.into_iter().take(GONE / 2) {
            if let Some(tally) = self.gone.remove(&key) {
                let nobody = Key {
                    party: Party::Nobody,
                    ..key
                };
                *self.gone.entry(nobody).or_default() += tally;
            }
        }
    }
}

/// Processes and listeners that are gone and still have counters of their own.
pub(crate) const GONE: usize = 4096;

fn remove(table: &mut Table, key: &[u8; size_of::<CountKey>()]) -> Result<(), MapError> {
    table.remove(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32, party: u64, kind: Kind) -> CountKey {
        CountKey {
            tgid,
            party,
            ..CountKey::new(7, 9, kind, Cause::AcceptQueueFull)
        }
    }

    #[test]
    fn keys_go_there_and_back() {
        let table = [
            (key(5, 6, Kind::ConnectFailed), Party::Process(5, 6)),
            (key(0, 6, Kind::SynDropped), Party::Listener(6)),
            (key(0, 0, Kind::SynDropped), Party::Nobody),
            (key(0, 0, Kind::ConnectFailed), Party::Nobody),
        ];
        for (raw, party) in table {
            let key = Key::of(&raw);
            assert_eq!(key.map(|key| key.party), Some(party));
            assert_eq!(key.map(|key| key.raw()), Some(raw));
        }
        let unknown = CountKey {
            kind: 99,
            ..key(1, 1, Kind::SynDropped)
        };
        assert_eq!(Key::of(&unknown), None);
    }

    #[test]
    fn cpus_are_summed() {
        let here = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut ip = [0; 16];
        ip[..4].copy_from_slice(&[10, 0, 0, 1]);
        let about = fold(&ip, 80);
        let both = sum([[3, 2, 1, 77, about, 0], [10, 20, 30, 5, about, 0]]);
        let expected = Tally {
            counted: 13,
            undescribed: 22,
            filtered: 31,
            about: About::One(about),
        };
        assert_eq!(both, expected);
        assert!(both.about.is(here));
        for other in [
            [1, 0, 0, 0, fold(&ip, 81), 0],
            [1, 0, 0, 0, about, 1],
            [1, 0, 0, 0, fold(&[1; 16], 80), 0],
        ] {
            let several = sum([[1, 0, 0, 0, about, 0], other]).about;
            assert_eq!(several, About::Several);
            assert!(!several.is(here));
        }
        assert!(
            sum([[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, about, 0]])
                .about
                .is(here)
        );
    }
}

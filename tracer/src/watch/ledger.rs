//! Keeps the counters and the events of one run together: what the kernel side counted
//! and did not describe one by one becomes an event that stands for many.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use tracer_common::{COUNT_KEYS, Cause, Kind, request_limit};

use crate::{
    attribute::{
        Attributor,
        namespaces::{Netstat, Standing},
        process,
    },
    decode::Decoded,
    model::{Failure, Netns},
    record::{By, Listener},
    source::counters::{About, Counters, GONE, Key, Party, Tallies},
};

/// Processes and listeners of which the first failure is remembered, so that what is
/// counted later can be told with it. As many as have counters, those included that have
/// ended.
const KNOWN: usize = COUNT_KEYS as usize + GONE;

/// So many processes and listeners that were never described are looked up for totals.
const NAMED: usize = 1024;

/// How often room is made in the kernel side's table.
const PAUSE: Duration = Duration::from_secs(10);

/// The last failure of a process or listener that was described one by one.
pub(super) struct Known {
    pub(super) failure: Failure,
    /// It is of the command's process tree, if only that is wanted.
    pub(super) is_ours: bool,
    /// It has had another name or user: a filter that knows what it is now cannot tell what
    /// it did before.
    has_changed: bool,
    passed: Passed,
}

/// How many failures of a process or listener passed the filter.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// Those that were described one by one.
    described: u64,
    summed: u64,
}

impl Passed {
    fn all(self) -> u64 {
        self.described + self.summed
    }
}

/// See the first line.
pub(super) struct Ledger {
    counters: Counters,
    known: HashMap<Key, Known>,
    /// How many undescribed failures of each are in events already.
    summed: HashMap<Key, u64>,
    /// The sum of those.
    summed_in_all: u64,
    /// What the kernel side had not described when sums were made last, and when.
    seen: u64,
    since: Timestamp,
    /// What each had failed when room was made last.
    before: BTreeMap<Key, u64>,
    made_room: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(counters: Counters) -> Self {
        Self {
            counters,
            known: HashMap::new(),
            summed: HashMap::new(),
            summed_in_all: 0,
            seen: 0,
            since: Timestamp::now(),
            before: BTreeMap::new(),
            made_room: None,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Leaves whoever failed here out ([`Counters::hide`]), if that is known.
    pub(super) fn hide(&mut self, event: &Decoded) -> bool {
        let Key { netns, party, .. } = key(event);
        let is_known = party != Party::Nobody;
        if is_known {
            self.counters.hide(netns, party);
        }
        is_known
    }

    /// Failures that are in events with a count of more than one, shown or filtered.
    pub(super) fn summed(&self) -> u64 {
        self.summed_in_all
    }

    /// Whether the process has another name or user than before. What was counted until now
    /// and not described is to be told before it is noted.
    pub(super) fn is_change(&self, event: &Decoded, failure: &Failure) -> bool {
        let known = self.known.get(&key(event));
        known.is_some_and(|known| identity(&known.failure) != identity(failure))
    }

    /// Remembers whose failure this is, and whether it passed the filter.
    pub(super) fn note(
        &mut self,
        event: &Decoded,
        failure: &Failure,
        is_ours: bool,
        has_passed: bool,
    ) {
        let key = key(event);
        if let Some(Known {
            failure: known,
            is_ours: was_ours,
            has_changed,
            passed,
        }) = self.known.get_mut(&key)
        {
            *was_ours |= is_ours;
            *has_changed |= identity(known) != identity(failure);
            passed.described += u64::from(has_passed);
            // Who accepts may change, and holders may come and go.
            if known.process != failure.process || known.holders != failure.holders {
                known.process.clone_from(&failure.process);
                known.holders.clone_from(&failure.holders);
            }
            known.accept_queue = failure.accept_queue;
            known.request_queue = failure.request_queue;
            known.asked = failure.asked;
            known.remote = failure.remote;
        } else if self.known.len() < KNOWN {
            let known = Known {
                failure: failure.clone(),
                is_ours,
                has_changed: false,
                passed: Passed {
                    described: u64::from(has_passed),
                    summed: 0,
                },
            };
            self.known.insert(key, known);
        }
    }

    /// An event for each process and listener with failures that were counted since the
    /// last time and are in no event yet, and whether it is of the command's tree.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(super) fn sums(
        &mut self,
        attributor: &mut Attributor,
    ) -> Result<Vec<(Key, Failure, bool)>> {
        let undescribed = self.counters.undescribed()?;
        let now = Timestamp::now();
        if undescribed == self.seen {
            self.since = now;
            return Ok(Vec::new());
        }
        let mut sums = Vec::new();
        for (key, tally) in self.counters.tallies()?.by {
            if key.party == Party::Nobody {
                // Those are in no event.
                continue;
            }
            let summed = self.summed.entry(key).or_default();
            let count = tally.undescribed.saturating_sub(*summed);
            if count == 0 {
                continue;
            }
            *summed += count;
            self.summed_in_all += count;
            let known = self.known.get(&key);
            let is_ours = known.is_some_and(|known| known.is_ours);
            let like = known.map(|known| known.failure.clone());
            let like = like.or_else(|| attributor.of_party(&key));
            sums.extend(like.map(|like| {
                let sum = Failure {
                    count,
                    since: Some(self.since),
                    time: now,
                    ..without_addresses(like, tally.about)
                };
                (key, sum, is_ours)
            }));
        }
        self.seen = undescribed;
        self.since = now;
        Ok(sums)
    }

    /// So many failures, of an event that stands for them, passed the filter.
    pub(super) fn passed(&mut self, key: &Key, count: u64) {
        if let Some(known) = self.known.get_mut(key) {
            known.passed.summed += count;
        }
    }

    /// Failures of processes and listeners that will be in an event soon.
    pub(super) fn waiting(&self, tallies: &Tallies) -> u64 {
        let parties = tallies.by.iter();
        let parties = parties.filter(|(key, _)| key.party != Party::Nobody);
        parties
            .map(|(key, tally)| self.waiting_of(key, tally.undescribed))
            .sum()
    }

    fn waiting_of(&self, key: &Key, undescribed: u64) -> u64 {
        undescribed.saturating_sub(self.summed.get(key).copied().unwrap_or(0))
    }

    /// Who failed how often, most often first; those that `is_wanted`. `by_identity`: names
    /// or users decide that, so that of a process that changed its own only what passed then
    /// counts.
    pub(super) fn by(
        &self,
        tallies: &Tallies,
        attributor: &mut Attributor,
        by_identity: bool,
        is_wanted: impl Fn(&Key, Option<&Failure>, bool) -> bool,
    ) -> Vec<By> {
        let mut by_weight: Vec<_> = tallies.by.iter().collect();
        by_weight.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.counted));
        let mut all = Vec::new();
        for (place, (key, tally)) in by_weight.into_iter().enumerate() {
            let known = self.known.get(key);
            let is_ours = known.is_some_and(|known| known.is_ours);
            let changed = known.filter(|known| by_identity && known.has_changed);
            let passed = changed.map(|known| known.passed);
            // To ask /proc about everybody takes long, and records name no more than these.
            let unseen = match known {
                None if place < NAMED => attributor.of_party(key),
                _ => None,
            };
            let known = known.map(|known| &known.failure).or(unseen.as_ref());
            let is_wanted = is_wanted(key, known, is_ours);
            let described = tally.counted.saturating_sub(tally.undescribed);
            let described = described.saturating_sub(tally.filtered);
            let (counted, described) = match passed {
                Some(passed) if passed.all() > 0 || is_wanted => {
                    let waiting = self.waiting_of(key, tally.undescribed);
                    let rest = if is_wanted { waiting } else { 0 };
                    (passed.all() + rest, passed.described)
                }
                None if is_wanted => (tally.counted, described),
                _ => continue,
            };
            let process = known.and_then(|it| Some(it.process.as_ref()?.0.clone()));
            let listener = match key.party {
                Party::Listener(inode) => Some(Listener {
                    inode,
                    local: known.and_then(|known| known.local),
                }),
                _ => None,
            };
            all.push(By {
                netns: key.netns,
                kind: key.kind,
                cause: key.cause,
                process,
                listener,
                counted,
                described,
            });
        }
        all
    }

    /// SYNs, by namespace, that came when the request queue stood exactly at its limit, if
    /// it is not known yet whether this kernel drops those.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(super) fn undecided(&self) -> Result<BTreeMap<Netns, u64>> {
        match self.counters.knows_request_limit() {
            true => Ok(BTreeMap::new()),
            false => self.counters.undecided(),
        }
    }

    /// Decides about them: the kernel's own counter of a namespace tells. `kernel`: what it
    /// counted since tracer was attached, read after `undecided`.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(super) fn decide(
        &mut self,
        undecided: &BTreeMap<Netns, u64>,
        kernel: &BTreeMap<Netns, (Netstat, Standing)>,
    ) -> Result<()> {
        let counts = self.counters.counts()?;
        for (netns, undecided) in undecided {
            let counted = counts
                .get(&(*netns, Kind::SynDropped, Cause::RequestQueueFull))
                .copied()
                .unwrap_or(0);
            let Some((netstat, standing)) = kernel.get(netns) else {
                continue;
            };
            // Of a namespace that tracer found late, the kernel may count from before.
            let is_late = *standing == Standing::Late;
            match netstat.req_qfull_drop.checked_sub(counted) {
                Some(0) if is_late || *standing == Standing::Current => {
                    self.counters.set_request_limit(request_limit::ACCEPTS);
                    return Ok(());
                }
                Some(more) if more == *undecided || (!is_late && more > 0) => {
                    self.counters.set_request_limit(request_limit::DROPS);
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Once a second: makes room in the kernel side's table before it is full.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let is_early = self.made_room.is_some_and(|then| then.elapsed() < PAUSE);
        if is_early || self.counters.keys()? < u64::from(COUNT_KEYS) / 2 {
            return Ok(());
        }
        self.made_room = Some(Instant::now());
        let tallies = self.counters.tallies()?;
        let before = std::mem::take(&mut self.before);
        let is_idle = |key: &Key| {
            let counted = tallies.by.get(key).map(|tally| tally.counted);
            before.get(key).copied() == counted
        };
        self.counters.make_room(|key| match key.party {
            Party::Process(pid, start) => process::is_gone(pid, start),
            Party::Listener(_) => is_idle(key),
            Party::Nobody => false,
        })?;
        let counted = tallies.by.iter().map(|(key, tally)| (*key, tally.counted));
        self.before = counted.collect();
        let there = self.counters.tallies()?.by;
        self.known.retain(|key, _| there.contains_key(key));
        self.summed.retain(|key, _| there.contains_key(key));
        Ok(())
    }
}

/// What filters can ask of a process and a process can change.
fn identity(failure: &Failure) -> Option<(&[u8], Option<u32>)> {
    let (process, _) = failure.process.as_ref()?;
    Some((&process.comm, process.uid))
}

fn key(event: &Decoded) -> Key {
    let raw = &event.raw;
    Key {
        netns: Netns {
            inum: raw.netns,
            cookie: raw.netns_cookie,
        },
        kind: event.kind,
        cause: event.cause,
        party: match event.kind.is_drop() {
            true if raw.inode == 0 => Party::Nobody,
            true => Party::Listener(raw.inode),
            false => Party::Process(raw.caller.tgid, raw.caller.start_ns),
        },
    }
}

/// A failure that stands for others: with the address that all of them were about, if it
/// was one.
fn without_addresses(like: Failure, about: About) -> Failure {
    let is_drop = like.kind.is_drop();
    let is_about = |address: &SocketAddr| about.is(*address);
    Failure {
        remote: like.remote.filter(is_about),
        local: match like.remote {
            // It was chosen for each, or is where each was sent to.
            Some(_) => like.local.filter(|_| is_drop),
            None => like.local.filter(|local| is_drop || is_about(local)),
        },
        inode: like.inode.filter(|_| is_drop),
        own_range: None,
        ..like
    }
}

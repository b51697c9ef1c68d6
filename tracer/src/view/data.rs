//! What records have told so far, in bounded memory: a pure function of records
//! and of the time. Knows no terminal.

use std::{collections::VecDeque, rc::Rc};

use jiff::Timestamp;

use super::rows::{Event, Group, Table};
use crate::{
    host::plan::Tier,
    output::words,
    probe::Served,
    reconcile::Pair,
    record::{Record, Status, Totals, Verified},
    source::counters::Health,
    startup::Startup,
};

/// Messages that are kept; the oldest make room, and that is counted.
const MESSAGES: usize = 200;

/// Where it runs, and with what.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) begun: Timestamp,
    pub(super) host: String,
    pub(super) kernel: String,
    /// Each tier in use, and for how many purposes.
    pub(super) tiers: Vec<(&'static str, usize)>,
    /// Purpose, tier, exactness, programs.
    pub(super) hooks: Vec<[String; 4]>,
    pub(super) degradations: Vec<String>,
    /// What the filter asks for in vain, when tracer started.
    pub(super) unmatched: Vec<String>,
    /// Whether the hooks see what they should; `None`: being found out, or not recorded.
    pub(super) verdict: Option<HookVerdict>,
}

/// What the verification at start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HookVerdict {
    pub(super) verified: usize,
    pub(super) failed: usize,
    pub(super) all: usize,
}

impl Run {
    fn new(startup: &Startup) -> Self {
        Self {
            begun: startup.time,
            host: words::printable(startup.host.as_bytes()),
            kernel: words::printable(startup.kernel.as_bytes()),
            tiers: tiers(&startup.served),
            hooks: hooks(&startup.served),
            verdict: None,
            degradations: startup
                .degradations
                .iter()
                .map(|sentence| words::harmless(sentence))
                .collect(),
            unmatched: startup
                .unmatched
                .iter()
                .map(|sentence| words::harmless(sentence))
                .collect(),
        }
    }
}

/// Each tier in use, and for how many purposes.
fn tiers(served: &[Served]) -> Vec<(&'static str, usize)> {
    let tiers = [Tier::Function, Tier::Kprobe, Tier::Portable].map(|tier| {
        let by = served.iter().filter_map(|served| served.by.as_ref());
        (tier.name(), by.filter(|by| by.tier == tier).count())
    });
    let none = served.iter().filter(|served| served.by.is_none());
    let all = tiers.into_iter().chain([("none", none.count())]);
    all.filter(|(_, count)| *count > 0).collect()
}

/// See [`Run::hooks`].
fn hooks(served: &[Served]) -> Vec<[String; 4]> {
    let hooks = served.iter().map(|served| {
        let by = served.by.as_ref();
        [
            served.purpose.name().to_owned(),
            by.map_or("none", |by| by.tier.name()).to_owned(),
            by.map_or("", |by| by.exactness.name()).to_owned(),
            by.map(|by| words::harmless(&by.targets.join(" + ")))
                .unwrap_or_default(),
        ]
    });
    hooks.collect()
}

/// How tracer's counts stand beside the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Not told yet.
    Unknown,
    /// Nothing that the kernel counts has happened.
    Silent,
    Agrees,
    /// Not more than was counted while the kernel's counters were being read.
    Nearly(u64),
    Differs(i128),
    /// So many namespaces cannot be read.
    Unreadable(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) now: Timestamp,
    pub(super) run: Option<Run>,
    pub(super) totals: Option<Totals>,
    /// Of runs before this one: a replay may hold several.
    pub(super) earlier: Health,
    /// Failures in these tables.
    pub(super) seen: u64,
    /// So many were counted but not described, as records told.
    pub(super) lost: u64,
    pub(super) tables: [Table; Group::ALL.len()],
    pub(super) messages: VecDeque<Message>,
    /// Messages that had to make room.
    pub(super) dropped: u64,
    pub(super) is_over: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) time: Timestamp,
    pub(super) text: String,
    /// For messages about losses: so many.
    lost: u64,
}

impl Data {
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    pub(super) fn record(&mut self, record: Record<'_>) {
        match record {
            Record::Startup(startup) => self.begin(startup),
            Record::Failure(failure) => {
                self.seen = self.seen.saturating_add(failure.count);
                let event = Rc::new(Event::new(failure));
                for group in Group::ALL {
                    self.tables[group.index()].note(failure, group, &event);
                }
            }
            Record::Census(census) => {
                let census = Rc::new(census.clone());
                for table in &mut self.tables {
                    table.found_census(&census);
                }
            }
            Record::NoCensus(time, id, _, why) => {
                let why = words::harmless(why);
                for table in &mut self.tables {
                    table.found_none(id, &why);
                }
                self.say_at(time, format!("census {id} cannot be taken: {why}"));
            }
            Record::Queue(finding) => {
                let finding = Rc::new(finding.clone());
                for table in &mut self.tables {
                    table.found_queue(&finding);
                }
            }
            Record::Totals(totals) => self.totals = Some(totals.clone()),
            Record::Verified(verified) => self.note_verified(verified),
            Record::Lost(time, count) => self.note_loss(time, count),
            Record::Gap(time, gap) => {
                let reason = words::harmless(&gap.reason);
                let text = format!("{} records could not be recorded: {reason}", gap.records);
                self.say_at(time, text);
            }
            Record::End(_) => self.is_over = true,
        }
    }

    /// Hooks may have been replaced; what failed, and what fell back, is a message each.
    fn note_verified(&mut self, verified: &Verified) {
        if let Some(run) = &mut self.run {
            let served: Vec<Served> = verified.served().collect();
            run.tiers = tiers(&served);
            run.hooks = hooks(&served);
            run.verdict = Some(HookVerdict {
                verified: verified.verified(),
                failed: verified.with(Status::Failed).count(),
                all: verified.purposes.len(),
            });
        }
        for one in &verified.purposes {
            let Some(reason) = &one.reason else { continue };
            let name = one.purpose.name();
            let text = match one.status {
                Status::Verified => format!("{name}: verified: {reason}"),
                Status::NotVerified => format!("{name}: not verified: {reason}"),
                Status::Failed => format!("{name}: verification FAILED: {reason}"),
            };
            self.say_at(verified.time, words::harmless(&text));
        }
    }

    fn begin(&mut self, startup: &Startup) {
        if let Some(totals) = self.totals.take() {
            self.earlier = self.earlier.and(totals.health);
        }
        for table in &mut self.tables {
            table.expect_nothing();
        }
        self.is_over = false;
        self.tick(startup.time);
        self.run = Some(Run::new(startup));
    }

    /// Losses go on while they go on: one message for all of them.
    fn note_loss(&mut self, time: Timestamp, count: u64) {
        self.lost = self.lost.saturating_add(count);
        let before = match self.messages.back() {
            Some(message) if message.lost > 0 => {
                let lost = message.lost;
                self.messages.pop_back();
                lost
            }
            _ => 0,
        };
        let lost = before.saturating_add(count);
        let text = format!("{lost} failures were counted but not described: too many at once");
        self.push(Message { time, text, lost });
    }

    /// Something that would have gone to standard error.
    pub(super) fn say(&mut self, text: &str) {
        let text = words::harmless(text.strip_prefix("tracer: ").unwrap_or(text));
        self.say_at(self.now, text);
    }

    fn say_at(&mut self, time: Timestamp, text: String) {
        let lost = 0;
        self.push(Message { time, text, lost });
    }

    fn push(&mut self, message: Message) {
        if self.messages.len() >= MESSAGES {
            self.messages.pop_front();
            self.dropped += 1;
        }
        self.messages.push_back(message);
    }

    pub(super) fn table(&self, group: Group) -> &Table {
        &self.tables[group.index()]
    }

    /// What was counted, of this run and those before; `None`: not told yet.
    pub(super) fn counts(&self) -> Option<Health> {
        Some(self.earlier.and(self.totals.as_ref()?.health))
    }

    pub(super) fn agreement(&self) -> Agreement {
        let Some(totals) = &self.totals else {
            return Agreement::Unknown;
        };
        if totals.rows.is_empty() {
            return Agreement::Silent;
        }
        let pairs = totals
            .rows
            .iter()
            .flat_map(|row| [row.listen_overflows, row.listen_drops, row.req_qfull_drop]);
        let differences: Vec<i128> = pairs.filter_map(Pair::difference).collect();
        let worst = differences.iter().copied().max_by_key(|it| it.abs());
        let unknown = |pair: Pair| pair.kernel.is_none();
        let unread = totals.rows.iter().filter(|row| unknown(row.listen_drops));
        match worst.unwrap_or(0) {
            0 if unread.clone().count() > 0 => Agreement::Unreadable(unread.count()),
            0 => Agreement::Agrees,
            worst if worst.unsigned_abs() <= u128::from(totals.meanwhile) => {
                Agreement::Nearly(totals.meanwhile)
            }
            worst => Agreement::Differs(worst),
        }
    }
}

//! Records in, findings out. Pure and streaming: memory has a bound whatever
//! the files hold, and what does not fit is counted as `others`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tracer_common::{Cause, Kind};

use crate::filter::{self, Facts};

use super::{
    crowd::{Crowd, Pids, Program},
    record::{self, Census, Event, Queue},
    runs::{self, Runs},
    tally::Tally,
    timeline::{Axis, Bucket, Course, Timeline},
    words::many,
};

/// Findings and listeners that are kept.
const FINDINGS: usize = 1024;
/// Programs that are kept.
const PROGRAMS: usize = 1024;
/// Findings of one program.
const REASONS: usize = 8;
/// Censuses that events wait for, gaps, names of unknown types.
const PENDING: usize = 4096;
const GAPS: usize = 64;
const TYPES: usize = 16;

/// The schema that this program knows.
const SCHEMA: u64 = 1;

/// What the user wants to see.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    /// Of failures.
    pub(super) only: filter::Filter,
}

impl Filter {
    fn has_time(&self, first: Timestamp, last: Timestamp) -> bool {
        self.since.is_none_or(|since| last >= since)
            && self.until.is_none_or(|until| first <= until)
    }

    /// Whether a record was asked for, whenever it is of.
    fn has(&self, record: &Value) -> bool {
        self.only.is_off() || self.only.wants(&Facts::from(record))
    }
}

/// Failed calls that belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallKey {
    /// Which boot of which host: namespaces have the same numbers on all.
    pub(super) boot: u32,
    pub(super) netns: u64,
    pub(super) kind: Kind,
    pub(super) cause: Cause,
    /// Where to, or what was asked for.
    pub(super) address: String,
}

/// What is known about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    pub(super) times: Times,
    pub(super) course: Course,
    pub(super) victims: Crowd,
    /// The census with most ports taken, of these the first.
    pub(super) worst: Option<Census>,
    pub(super) censuses: u64,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListenerKey {
    pub(super) boot: u32,
    pub(super) netns: u64,
    pub(super) local: String,
    pub(super) inode: u64,
}

/// What it dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    pub(super) times: Times,
    pub(super) course: Course,
    pub(super) causes: BTreeMap<Cause, u64>,
    pub(super) syns: u64,
    pub(super) acks: u64,
    pub(super) resets: u64,
    pub(super) who: Crowd,
    /// Spells of drops that have a record.
    pub(super) spells: u64,
    /// The one with most drops, as its last record tells it.
    worst: Option<Queue>,
    last: Option<((u64, u64), Queue)>,
    /// Most at any time.
    pub(super) ghosts: u64,
    pub(super) ghost_peers: Vec<String>,
}

impl Listener {
    /// The worst spell.
    pub(super) fn spell(&self) -> Option<&Queue> {
        let last = self.last.as_ref().map(|(_, queue)| queue);
        match (&self.worst, last) {
            (Some(worst), Some(last)) if worst.drops >= last.drops => Some(worst),
            (worst, None) => worst.as_ref(),
            (_, last) => last,
        }
    }

    /// A later record about the same spell replaces the earlier one.
    fn told(&mut self, run: u64, queue: Queue) {
        if queue.ghosts > self.ghosts {
            self.ghosts = queue.ghosts;
            self.ghost_peers.clone_from(&queue.ghost_peers);
        }
        let id = (run, queue.id);
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.spells = self.spells.saturating_add(1);
            self.worst = self.spell().cloned();
        }
        self.last = Some((id, queue));
    }
}

/// A program whose calls failed.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) times: Times,
    pub(super) course: Course,
    pub(super) pids: Pids,
    pub(super) reasons: Tally<CallKey, ()>,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            times: Times::default(),
            course: Course::default(),
            pids: Pids::default(),
            reasons: Tally::new(REASONS),
        }
    }
}

/// First and last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times(pub(super) Option<(Timestamp, Timestamp)>);

impl Times {
    pub(super) fn add(&mut self, time: Timestamp) {
        self.0 = Some(match self.0 {
            None => (time, time),
            Some((first, last)) => (first.min(time), last.max(time)),
        });
    }
}

/// Nothing was recorded between these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) why: String,
}

/// Records that said nothing.
#[derive(Clone, Debug)]
pub(super) struct Skipped {
    /// Not a JSON object.
    pub(super) not_json: u64,
    /// Without a time, a kind or a cause that is known.
    pub(super) not_understood: u64,
    /// Of a schema that is newer.
    pub(super) newer: u64,
    pub(super) types: Tally<String, ()>,
}

/// Everything that is known so far.
#[derive(Debug)]
pub(super) struct Analysis {
    filter: Filter,
    /// Boot id and host of each boot.
    boots: Vec<(String, String)>,
    boot: u32,
    run: u64,
    pub(super) runs: Runs,
    pub(super) span: Times,
    pub(super) records: u64,
    /// Failures in the files, and those that the filter lets pass.
    pub(super) events: u64,
    pub(super) shown: u64,
    pub(super) censuses: u64,
    pub(super) queues: u64,
    pub(super) lost: u64,
    pub(super) gaps: Vec<Gap>,
    pub(super) more_gaps: u64,
    pub(super) skipped: Skipped,
    pub(super) no_census: Tally<String, ()>,
    pub(super) calls: Tally<CallKey, Calls>,
    pub(super) listeners: Tally<ListenerKey, Listener>,
    pub(super) processes: Tally<(u32, Program), Failing>,
    pub(super) timeline: Timeline,
    /// Which failures a census is about, by its id.
    pending: BTreeMap<u64, CallKey>,
}

impl Analysis {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            boots: Vec::new(),
            boot: 0,
            run: 0,
            runs: Runs::default(),
            span: Times::default(),
            records: 0,
            events: 0,
            shown: 0,
            censuses: 0,
            queues: 0,
            lost: 0,
            gaps: Vec::new(),
            more_gaps: 0,
            skipped: Skipped {
                not_json: 0,
                not_understood: 0,
                newer: 0,
                types: Tally::new(TYPES),
            },
            no_census: Tally::new(TYPES),
            calls: Tally::new(FINDINGS),
            listeners: Tally::new(FINDINGS),
            processes: Tally::new(PROGRAMS),
            timeline: Timeline::default(),
            pending: BTreeMap::new(),
        }
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// A line that is not JSON, or not an object.
    pub(super) fn not_json(&mut self) {
        self.skipped.not_json = self.skipped.not_json.saturating_add(1);
    }

    /// Takes one record in.
    pub(super) fn feed(&mut self, record: &Value) {
        if !record.is_object() {
            return self.not_json();
        }
        self.records = self.records.saturating_add(1);
        if record["v"].as_u64() != Some(SCHEMA) {
            self.skipped.newer = self.skipped.newer.saturating_add(1);
            return;
        }
        let kind = record["type"].as_str().unwrap_or_default();
        if kind == "startup" {
            self.start(record);
        }
        let time = record::time(&record["time"]);
        // Every file of a rotated set begins with the startup of its run.
        let begun = record::time(&record["file"]["time"]);
        if let Some(time) = begun.or(time) {
            self.at(time);
        }
        let understood = match kind {
            "startup" => Some(()),
            "verified" => {
                let failed = runs::failed_hooks(record);
                self.runs.current().degradations.extend(failed);
                Some(())
            }
            "event" => record::event(record).map(|event| {
                let is_wanted = self.filter.has(record);
                self.event(&event, is_wanted);
            }),
            "census" => record::census(record).map(|census| self.census(record, census)),
            "queue" => record::queue(record).map(|queue| self.queue(record, queue)),
            "totals" => {
                self.runs.current().totals = Some(runs::totals(record, &self.filter.only));
                Some(())
            }
            "gap" => self.not_written(record, time),
            "lost" => time.map(|time| self.lost(time, record::amount(&record["count"]))),
            "end" => {
                let reason = record::name(&record["reason"]).unwrap_or_default();
                self.runs.current().end = Some(reason);
                Some(())
            }
            other => {
                let shown = record::name(&Value::from(other)).unwrap_or_default();
                self.skipped.types.add(&shown, 1);
                Some(())
            }
        };
        if understood.is_none() {
            self.skipped.not_understood = self.skipped.not_understood.saturating_add(1);
        }
    }

    /// Takes a failure in that was read already. Only if nothing but a time was asked
    /// for: what else may be is not all in it.
    pub(super) fn feed_event(&mut self, event: &Event) {
        self.records = self.records.saturating_add(1);
        self.at(event.time);
        self.event(event, true);
    }

    fn at(&mut self, time: Timestamp) {
        self.span.add(time);
        let run = self.runs.current();
        run.first.get_or_insert(time);
        run.last = run.last.max(Some(time));
    }

    fn start(&mut self, record: &Value) {
        let before = self.runs.told.last();
        let before = before.and_then(|run| Some((run.last?, run.file)));
        let is_new = self.runs.start(record);
        self.missing_files(record, before.filter(|_| !is_new));
        if !is_new {
            return;
        }
        self.run = self.run.saturating_add(1);
        self.pending.clear();
        let name = |field: &str| record::name(&record[field]).unwrap_or_default();
        let boot = (name("boot_id"), name("host"));
        let known = self.boots.iter().position(|known| *known == boot);
        let index = known.unwrap_or(self.boots.len());
        if known.is_none() && self.boots.len() < GAPS {
            self.boots.push(boot);
        }
        self.boot = u32::try_from(index).unwrap_or(u32::MAX);
        if let (Some((since, _)), Some(until)) = (before, record::time(&record["time"])) {
            self.gap(Gap {
                since,
                until,
                why: "tracer was not running".to_owned(),
            });
        }
    }

    /// Looks at the number of a file in its rotated set. `before`: end and
    /// number of the file before it, of the same run.
    fn missing_files(&mut self, record: &Value, before: Option<(Timestamp, u64)>) {
        let file = &record["file"];
        let (Some(number), Some(begun)) =
            (record::number(&file["number"]), record::time(&file["time"]))
        else {
            return;
        };
        self.runs.current().file = number;
        let (since, next) = match before {
            Some((since, last)) => (Some(since), last.saturating_add(1)),
            None => (record::time(&record["time"]), 0),
        };
        if let Some(since) = since.filter(|_| number > next) {
            self.gap(Gap {
                since,
                until: begun,
                why: format!("{} of the set not here", many(number - next, "file")),
            });
        }
    }

    /// Records that could not be written.
    fn not_written(&mut self, record: &Value, until: Option<Timestamp>) -> Option<()> {
        let records = many(record::amount(&record["records"]), "record");
        let reason = record::sentence(&record["reason"]).unwrap_or_default();
        self.gap(Gap {
            since: record::time(&record["since"])?,
            until: until?,
            why: format!("{records} not written: {reason}"),
        });
        Some(())
    }

    fn gap(&mut self, gap: Gap) {
        if gap.since > gap.until {
            return;
        }
        if self.gaps.len() < GAPS {
            self.gaps.push(gap);
        } else {
            self.more_gaps = self.more_gaps.saturating_add(1);
        }
    }

    fn event(&mut self, event: &Event, is_wanted: bool) {
        self.events = self.events.saturating_add(event.count);
        if !is_wanted || !self.filter.has_time(event.time, event.time) {
            return;
        }
        self.shown = self.shown.saturating_add(event.count);
        let at = event.time.as_millisecond();
        let mut bucket = Bucket::default();
        if event.kind.is_drop() {
            bucket.drops = event.count;
            self.drop(event, at);
        } else {
            bucket.calls = event.count;
            self.call(event, at);
        }
        self.timeline.add(at, bucket);
    }

    fn call(&mut self, event: &Event, at_ms: i64) {
        let address = match event.kind {
            Kind::ConnectFailed => &event.remote,
            _ => &event.local,
        };
        let key = CallKey {
            boot: self.boot,
            netns: event.netns,
            kind: event.kind,
            cause: event.cause,
            address: address.clone(),
        };
        let who = event.process.as_ref();
        let calls = self.calls.add(&key, event.count);
        calls.times.add(event.time);
        calls.course.add(at_ms, event.count);
        calls.victims.add(who, event.count);
        let program = (self.boot, Program::of(who));
        let program = self.processes.add(&program, event.count);
        program.times.add(event.time);
        program.course.add(at_ms, event.count);
        program.pids.add(who, event.count);
        program.reasons.add(&key, event.count);
        if let Some(id) = event.census {
            self.pending.insert(id, key);
            if self.pending.len() > PENDING {
                // Ids only grow: the lowest is the oldest.
                self.pending.pop_first();
            }
        }
    }

    fn drop(&mut self, event: &Event, at_ms: i64) {
        let key = ListenerKey {
            boot: self.boot,
            netns: event.netns,
            local: event.local.clone(),
            inode: event.inode,
        };
        let listener = self.listeners.add(&key, event.count);
        listener.times.add(event.time);
        listener.course.add(at_ms, event.count);
        let count = listener.causes.entry(event.cause).or_default();
        *count = count.saturating_add(event.count);
        let count = match event.kind {
            Kind::SynDropped => &mut listener.syns,
            Kind::AckDropped => &mut listener.acks,
            _ => &mut listener.resets,
        };
        *count = count.saturating_add(event.count);
        listener.who.add(event.process.as_ref(), event.count);
    }

    fn census(&mut self, record: &Value, census: Census) {
        self.censuses = self.censuses.saturating_add(1);
        let key = record::number(&record["id"]).and_then(|id| self.pending.get(&id));
        let Some(calls) = key.cloned().and_then(|key| self.calls.detail(&key)) else {
            return;
        };
        if let Some(why) = &census.unavailable {
            self.no_census.add(why, 1);
        }
        calls.censuses = calls.censuses.saturating_add(1);
        let taken = |census: &Census| (census.unavailable.is_none(), census.taken());
        if calls
            .worst
            .as_ref()
            .is_none_or(|worst| taken(&census) > taken(worst))
        {
            calls.worst = Some(census);
        }
    }

    fn queue(&mut self, record: &Value, queue: Queue) {
        self.queues = self.queues.saturating_add(1);
        if !self.filter.has(record) || !self.filter.has_time(queue.since, queue.until) {
            return;
        }
        let key = ListenerKey {
            boot: self.boot,
            netns: queue.netns,
            local: queue.local.clone(),
            inode: queue.inode,
        };
        if let Some(listener) = self.listeners.detail(&key) {
            listener.told(self.run, queue);
        }
    }

    fn lost(&mut self, time: Timestamp, count: u64) {
        self.lost = self.lost.saturating_add(count);
        if self.filter.has_time(time, time) {
            let bucket = Bucket {
                lost: count,
                ..Bucket::default()
            };
            self.timeline.add(time.as_millisecond(), bucket);
        }
    }

    /// The findings, the one with most failures first.
    pub(super) fn findings(&self) -> Vec<Finding<'_>> {
        let calls = self.calls.by_weight().into_iter();
        let listeners = self.listeners.by_weight().into_iter();
        let mut findings: Vec<_> = calls
            .map(|(key, row)| Finding {
                count: row.count,
                is_partial: row.is_partial,
                about: About::Calls(key, &row.detail),
            })
            .chain(listeners.map(|(key, row)| Finding {
                count: row.count,
                is_partial: row.is_partial,
                about: About::Listener(key, &row.detail),
            }))
            .collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.count));
        findings
    }

    /// The host of a key, if there is more than one.
    pub(super) fn host(&self, boot: u32) -> Option<&str> {
        let (_, first) = self.boots.first()?;
        if self.boots.iter().all(|(_, host)| host == first) {
            return None;
        }
        let (_, host) = self.boots.get(usize::try_from(boot).ok()?)?;
        Some(host)
    }

    /// Whether not everything is shown.
    pub(super) fn is_filtered(&self) -> bool {
        let Filter { since, until, only } = &self.filter;
        since.is_some() || until.is_some() || !only.is_off()
    }

    /// From when until when: what was asked for, within what there is.
    pub(super) fn window(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = self.span.0?;
        let since = self.filter.since.map_or(first, |since| since.max(first));
        let until = self.filter.until.map_or(last, |until| until.min(last));
        (since <= until).then_some((since, until))
    }

    /// The axis of a chart over that, of at most `most` columns.
    pub(super) fn axis(&self, most: usize) -> Option<Axis> {
        let (since, until) = self.window()?;
        let (from, to) = (since.as_millisecond(), until.as_millisecond());
        Some(self.timeline.axis(from, to, most))
    }
}

/// What an engineer should look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding<'a> {
    pub(super) count: u64,
    /// `count` is a lower limit.
    pub(super) is_partial: bool,
    pub(super) about: About<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    Calls(&'a CallKey, &'a Calls),
    Listener(&'a ListenerKey, &'a Listener),
}

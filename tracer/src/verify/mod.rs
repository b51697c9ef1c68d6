//! Verifies at start, in the background, that every hook sees what it should.
//!
//! A process of tracer's own ([`actor`]) causes each failure once ([`scenes`]) in a
//! network namespace that nobody else is in. The kernel side recognises the namespace by
//! the map `VERIFICATION`: it describes every failure there and counts none, so nothing
//! of this reaches totals, records or metrics. What was caused is then compared with what
//! the hooks saw ([`judge`], pure). A purpose whose hooks missed something falls back to
//! the next ones, which are verified likewise.
//!
//! The namespace's inode number is written to the map only while the namespace exists:
//! the kernel gives such numbers out again, and another namespace must not inherit it.

pub(crate) mod actor;
pub(crate) mod judge;
mod scenes;

use std::{collections::BTreeMap, fs::File, future::pending, time::Duration};

use anyhow::{Context, Result};
use aya::maps::Array;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracer_common::{Event as RawEvent, Family, Task, Verification as Shared};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    decode::{Decoded, comm, decode},
    explain::closers::Closers,
    host::{netns, pid_namespace, plan::Purpose},
    probe::{Owned, Probe, Served},
    record::{Checked, Status, Verified},
    source::live::Live,
};
use actor::{Actor, NAME, Report};
use judge::{Finding, Tally};

/// How long the namespace may take. The kernel makes one in milliseconds, but not while
/// it takes many others apart.
const READY: Duration = Duration::from_secs(10);

/// How long causing failures may take; usually less than a tenth of it.
const PLAY: Duration = Duration::from_secs(2);

/// A description may come this much later than the failure.
const SETTLE: Duration = Duration::from_millis(50);

/// Whether another tracer on this host, a recorder or `tracer doctor`, causes this failure
/// to verify its own hooks: the process that fails, or that listens, has that name and is
/// root, in a namespace that is not everybody's.
pub(crate) fn is_of_another_tracer(event: &Decoded) -> bool {
    let RawEvent {
        caller, listener, ..
    } = &event.raw;
    let task = if event.kind.is_drop() {
        listener
    } else {
        caller
    };
    comm(task) == NAME.to_bytes()
        && task.uid == 0
        && netns::of_process(std::process::id()) != Some(event.raw.netns)
}

/// What `--no-verify` makes the reason.
pub(crate) const SWITCHED_OFF: &str = "switched off with --no-verify";

/// The process that causes failures, before anything is attached.
pub(crate) enum Prepared {
    /// It makes its namespace meanwhile.
    Started(Box<Actor>),
    /// Nothing will be verified, and why.
    Not(String),
}

impl Prepared {
    /// Starts the process. To be called inside of the runtime, and while tracer has the
    /// privileges to make a namespace.
    pub(crate) fn start() -> Self {
        match Actor::start() {
            Ok(actor) => {
                netns::hide_verifier(actor.pid);
                Self::Started(Box::new(actor))
            }
            Err(why) => Self::Not(format!("{why:#}")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The namespace is being made.
    Starting,
    /// Failures are being caused.
    Playing,
    /// All have been caused; the last descriptions may still come.
    Settling,
    /// The verdict is known; the process is about to end.
    Ending,
    Over,
}

/// Something to [`Verification::handle`].
pub(crate) enum Event {
    /// `None`: the process has ended.
    Report(Option<Report>),
    /// It is time to go on.
    Due,
    /// The process is gone.
    Ended,
}

/// What the caller must do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// Read the ring buffer until it is empty, then call [`Verification::judge`].
    Judge,
    /// Read the ring buffer until it is empty, then call [`Verification::forget`].
    Forget,
}

/// Verifies the hooks of a probe whose events nobody else reads.
///
/// # Errors
/// The object lacks a map, or the ring buffer cannot be polled.
pub(crate) async fn alone(probe: &mut Probe, prepared: Prepared) -> Result<Verified> {
    let mut live = Live::new(probe.take_map("EVENTS")?)?;
    let has_closers = probe.serves(Purpose::Closer);
    let closers = has_closers.then(|| Closers::new(probe)).transpose()?;
    let mut verification = Verification::new(probe, prepared, true)?;
    loop {
        let next = tokio::select! {
            event = verification.wait() => verification.handle(event, &probe.served).await,
            ring = live.wait() => ring.map(|()| Next::Nothing)?,
        };
        while let Some(bytes) = live.take() {
            if let Ok(event) = decode(&bytes) {
                verification.takes(&event);
            }
        }
        if next == Next::Judge
            && let Some(verified) = verification.judge(probe, closers.as_ref()).await
        {
            verification.forget();
            return Ok(verified);
        }
    }
}

/// One verification, from the start of its process to its end.
pub(crate) struct Verification {
    stage: Stage,
    until: Instant,
    actor: Option<Actor>,
    /// Keeps the inode number from being given to another namespace.
    namespace: Option<File>,
    netns: u32,
    map: Array<Owned, [u8; size_of::<Shared>()]>,
    /// The process as the kernel side names it; `None`: numbers differ here.
    pid: Option<u32>,
    tally: Tally,
    /// What is being played.
    playing: Vec<Purpose>,
    /// Why purposes fell back.
    fallen: BTreeMap<Purpose, Vec<String>>,
    checked: BTreeMap<Purpose, Checked>,
    /// Why nothing more will be verified.
    stopped: Option<String>,
    is_told: bool,
    can_fall_back: bool,
}

impl Verification {
    /// `can_fall_back`: whether tracer keeps the privileges to load programs.
    ///
    /// # Errors
    /// The object lacks the map.
    pub(crate) fn new(probe: &mut Probe, prepared: Prepared, can_fall_back: bool) -> Result<Self> {
        let (actor, stopped) = match prepared {
            Prepared::Started(actor) => (Some(*actor), None),
            Prepared::Not(why) => (None, Some(why)),
        };
        let is_hosts = pid_namespace::is_hosts() == Some(true);
        Ok(Self {
            stage: Stage::Starting,
            until: Instant::now() + READY,
            pid: actor.as_ref().map(|actor| actor.pid).filter(|_| is_hosts),
            actor,
            namespace: None,
            netns: 0,
            map: probe.take_map("VERIFICATION")?,
            tally: Tally::default(),
            playing: Vec::new(),
            fallen: BTreeMap::new(),
            checked: BTreeMap::new(),
            stopped,
            is_told: false,
            can_fall_back,
        })
    }

    /// Waits for something to do; for ever if there is nothing. Safe to cancel.
    pub(crate) async fn wait(&mut self) -> Event {
        let Some(actor) = &mut self.actor else {
            return match self.stage {
                Stage::Over => pending().await,
                _ => Event::Ended,
            };
        };
        match self.stage {
            Stage::Starting | Stage::Playing => tokio::select! {
                report = actor.report() => Event::Report(report),
                () = sleep_until(self.until) => Event::Due,
            },
            Stage::Settling => {
                sleep_until(self.until).await;
                Event::Due
            }
            Stage::Ending | Stage::Over => {
                actor.ended().await;
                Event::Ended
            }
        }
    }

    /// Does what an event asks for.
    pub(crate) async fn handle(&mut self, event: Event, served: &[Served]) -> Next {
        match event {
            Event::Report(Some(report)) => self.take(report, served).await,
            Event::Report(None) => self.stop("the process that causes failures ended early"),
            Event::Due => match self.stage {
                Stage::Starting => self.stop("its network namespace was not ready in time"),
                Stage::Playing => self.stop("causing the failures took too long"),
                _ => Next::Judge,
            },
            Event::Ended if self.stage == Stage::Ending => Next::Forget,
            // There never was one.
            Event::Ended => Next::Judge,
        }
    }

    async fn take(&mut self, report: Report, served: &[Served]) -> Next {
        match report {
            Report::Ready(inum) => {
                if let Err(why) = self.recognise(inum) {
                    return self.stop(&format!("{why:#}"));
                }
                let all = served.iter().filter(|one| one.by.is_some());
                self.play(all.map(|one| one.purpose).collect()).await
            }
            Report::NoNamespace(why) => self.stop(&why),
            Report::Caused(caused) => {
                self.tally.caused(caused.purpose, caused.v6, caused.times);
                Next::Nothing
            }
            Report::Unfit(purpose, v6, why) => {
                self.tally.unfit(purpose, v6, why);
                Next::Nothing
            }
            Report::Done => {
                self.stage = Stage::Settling;
                self.until = Instant::now() + SETTLE;
                Next::Judge
            }
        }
    }

    /// Nothing more will be verified.
    fn stop(&mut self, why: &str) -> Next {
        self.stopped = Some(why.to_owned());
        Next::Judge
    }

    /// Tells the kernel side which namespace it is.
    fn recognise(&mut self, inum: u32) -> Result<()> {
        let pid = self.actor.as_ref().map_or(0, |actor| actor.pid);
        let path = format!("/proc/{pid}/ns/net");
        // Without privileges it cannot be held; then the process alone keeps it.
        self.namespace = File::open(&path).ok();
        self.netns = inum;
        netns::set_verification(inum);
        self.share(inum)
    }

    fn share(&mut self, netns: u32) -> Result<()> {
        let shared = Shared {
            netns,
            ..Shared::default()
        };
        let mut value = [0; size_of::<Shared>()];
        value.copy_from_slice(shared.as_bytes());
        self.map
            .set(0, value, 0)
            .context("the kernel side cannot be told about the verification")
    }

    /// Orders these to be caused.
    async fn play(&mut self, purposes: Vec<Purpose>) -> Next {
        // Counts of an earlier order are no longer wanted.
        let netns = self.netns;
        let shared = self.share(netns);
        self.tally = Tally::default();
        let ordered = match &mut self.actor {
            Some(actor) => shared.and(actor.order(&purposes).await),
            None => shared,
        };
        self.playing = purposes;
        self.stage = Stage::Playing;
        self.until = Instant::now() + PLAY;
        match ordered {
            Ok(()) => Next::Nothing,
            Err(why) => self.stop(&format!("{why:#}")),
        }
    }

    /// Takes an event if it belongs to the verification: it is nobody else's then.
    pub(crate) fn takes(&mut self, event: &Decoded) -> bool {
        if !netns::is_verification(event.raw.netns) {
            return false;
        }
        self.tally.described += 1;
        let v6 = event.family == Family::V6;
        let purpose = Purpose::of(event.kind, event.cause);
        let RawEvent {
            caller,
            listener,
            acceptor,
            ..
        } = &event.raw;
        if event.kind.is_drop() || self.is_ours(caller) {
            self.tally.seen(purpose, v6);
        }
        if purpose == Purpose::SynDrop {
            for (task, purpose) in [(listener, Purpose::Listener), (acceptor, Purpose::Acceptor)] {
                if self.is_ours(task) {
                    self.tally.seen(purpose, v6);
                }
            }
            if i32::from(event.raw.accept_errno) == libc::EMFILE {
                self.tally.seen(Purpose::AcceptFailure, v6);
            }
        }
        true
    }

    fn is_ours(&self, task: &Task) -> bool {
        comm(task) == NAME.to_bytes() && self.pid.is_none_or(|pid| task.tgid == pid)
    }

    /// Compares what was caused with what was seen. Falls back where something was
    /// missed, and goes on; or gives the result, once.
    pub(crate) async fn judge(
        &mut self,
        probe: &mut Probe,
        closers: Option<&Closers>,
    ) -> Option<Verified> {
        if self.stage == Stage::Ending || self.stage == Stage::Over {
            return None;
        }
        if let Some(why) = self.stopped.clone() {
            return Some(self.conclude(&probe.served, &why));
        }
        self.count_closers(closers);
        let mut tally = self.tally.clone();
        tally.missed = self.counted().saturating_sub(tally.described);
        let playing = probe.served.iter();
        let playing: Vec<Served> = playing
            .filter(|one| self.playing.contains(&one.purpose))
            .cloned()
            .collect();
        let findings: Vec<Finding> = judge::judge(&playing, &tally);
        let has_failed = |one: &Finding| one.status == Status::Failed;
        if findings.iter().any(has_failed) && Instant::now() < self.until {
            // A description may still be on its way.
            return None;
        }
        let mut again = Vec::new();
        for finding in &findings {
            self.note(finding);
        }
        for finding in findings.iter().filter(|one| has_failed(one)) {
            again.extend(self.fall_back(probe, finding));
        }
        again.retain(|purpose| probe.serves(*purpose));
        if again.is_empty() {
            return Some(self.conclude(&probe.served, "it was not played"));
        }
        // Who listens, who accepts, and why not is read from dropped SYNs.
        for purpose in [Purpose::Listener, Purpose::Acceptor, Purpose::AcceptFailure] {
            let is_open =
                self.checked.get(&purpose).map(|one| one.status) != Some(Status::Verified);
            if is_open && probe.serves(purpose) && !again.contains(&purpose) {
                again.push(purpose);
            }
        }
        if again.iter().any(|it| {
            matches!(
                it,
                Purpose::Listener | Purpose::Acceptor | Purpose::AcceptFailure
            )
        }) && probe.serves(Purpose::SynDrop)
            && !again.contains(&Purpose::SynDrop)
        {
            again.push(Purpose::SynDrop);
        }
        again.sort_unstable();
        again.dedup();
        let next = self.play(again).await;
        match (next, self.stopped.clone()) {
            (Next::Judge, Some(why)) => Some(self.conclude(&probe.served, &why)),
            _ => None,
        }
    }

    fn note(&mut self, finding: &Finding) {
        let checked = Checked {
            purpose: finding.purpose,
            status: finding.status,
            caused: finding.caused,
            seen: finding.seen,
            by: None,
            reason: finding.reason.clone(),
        };
        self.checked.insert(finding.purpose, checked);
    }

    /// Replaces the hooks of a purpose; which purposes have others now.
    fn fall_back(&mut self, probe: &mut Probe, finding: &Finding) -> Vec<Purpose> {
        let why = finding.reason.clone().unwrap_or_default();
        if !self.can_fall_back {
            self.add_reason(
                finding.purpose,
                "other hooks cannot be loaded: --drop-all gave the privileges up",
            );
            return Vec::new();
        }
        // Half an eye is better than none.
        if finding.seen > 0 && !probe.has_alternative(finding.purpose) {
            self.add_reason(finding.purpose, "no other hook can be tried");
            return Vec::new();
        }
        let tier = probe.tier(finding.purpose);
        let concerned = probe.fall_back(finding.purpose, &why);
        for purpose in &concerned {
            let reason = match tier {
                Some(tier) => format!("{}: {why}", tier.name()),
                None => why.clone(),
            };
            self.fallen.entry(*purpose).or_default().push(reason);
            if !probe.serves(*purpose) {
                self.add_reason(*purpose, "no other hook attaches");
            }
        }
        concerned
    }

    fn add_reason(&mut self, purpose: Purpose, more: &str) {
        if let Some(checked) = self.checked.get_mut(&purpose) {
            checked.reason = Some(match &checked.reason {
                Some(reason) => format!("{reason}; {more}"),
                None => more.to_owned(),
            });
        }
    }

    /// How many failures the kernel side saw in the namespace.
    fn counted(&self) -> u64 {
        let value = self.map.get(&0, 0).ok();
        let shared = value.and_then(|value| Shared::read_from_bytes(&value).ok());
        shared.map_or(0, |shared| shared.counted)
    }

    fn count_closers(&mut self, closers: Option<&Closers>) {
        self.tally.forget_seen(Purpose::Closer);
        let Some(closers) = closers.filter(|_| self.playing.contains(&Purpose::Closer)) else {
            return;
        };
        for (v6, task) in closers.towards(self.netns, scenes::CLOSER_PORT) {
            if self.is_ours(&task) {
                self.tally.seen(Purpose::Closer, v6);
            }
        }
    }

    /// The result; the process is told to end.
    fn conclude(&mut self, served: &[Served], otherwise: &str) -> Verified {
        self.stage = Stage::Ending;
        if self.namespace.is_none() {
            // The number may be another namespace's as soon as the process is gone.
            let _ = self.share(0);
        }
        if let Some(actor) = &mut self.actor {
            actor.kill();
        }
        self.result(served, otherwise)
    }

    fn result(&mut self, served: &[Served], otherwise: &str) -> Verified {
        self.is_told = true;
        let purposes = served.iter().map(|one| {
            let checked = self.checked.get(&one.purpose).cloned();
            let mut checked =
                checked.unwrap_or_else(|| Checked::not_verified(one, otherwise.to_owned()));
            checked.by = one.by.clone();
            // What failed before is worth telling of one that has been verified since.
            if let Some(fallen) = self.fallen.get(&one.purpose)
                && checked.status != Status::Failed
            {
                let mut reasons = fallen.clone();
                reasons.extend(checked.reason.take());
                checked.reason = Some(reasons.join("; "));
            }
            checked
        });
        Verified {
            time: Timestamp::now(),
            purposes: purposes.collect(),
        }
    }

    /// The result if nothing is to be verified; nothing is caused then.
    pub(crate) fn switch_off(&mut self, served: &[Served]) -> Option<Verified> {
        let why = self.stopped.clone()?;
        self.stage = Stage::Over;
        Some(self.result(served, &why))
    }

    /// The result as far as it is known, if it has not been given.
    pub(crate) fn give_up(&mut self, served: &[Served]) -> Option<Verified> {
        (!self.is_told).then(|| self.result(served, "tracer ended before it was verified"))
    }

    /// The process is gone, and the ring buffer has been read since: nothing of the
    /// namespace can come any more.
    pub(crate) fn forget(&mut self) {
        self.stage = Stage::Over;
        self.actor = None;
        // First the kernel side, then the namespace: nobody else may have its number
        // while the kernel side still recognises it. An error changes nothing here:
        // the namespace is then kept, and the number with it.
        if self.share(0).is_ok() {
            self.namespace = None;
            self.netns = 0;
            netns::set_verification(0);
        }
        netns::hide_verifier(0);
    }
}

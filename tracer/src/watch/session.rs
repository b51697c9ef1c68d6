//! One run: what is attached, what was learned, what was shown.

use std::{io, sync::Arc};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{explainer::Explainer, reading::Reading};
use crate::{
    attribute::{Attributor, namespaces::Namespaces},
    cli::Run,
    decode::decode,
    explain::{closers::Closers, worker::Answer},
    filter::{Facts, Filter},
    host::plan::Purpose,
    metrics::Question,
    output::{Asked, Output, say},
    probe::Probe,
    reconcile::reconcile,
    record::{End, Record, Totals},
    source::{counters::Counters, live::Live},
    startup::Startup,
    verify::{self, Next, Prepared, Verification},
    view::{self, Wish},
};

pub(super) struct Session {
    live: Live,
    counters: Counters,
    namespaces: Namespaces,
    /// What had been counted when the namespaces began to be compared: tracer
    /// is attached before that.
    baseline: Reading,
    attributor: Attributor,
    explainer: Explainer,
    output: Output,
    filter: Filter,
    wanted: Option<u64>,
    shown: u64,
    /// Described by the kernel side, and not asked for.
    hidden: u64,
    malformed: u64,
    lost_shown: u64,
    since: Timestamp,
    verbose: bool,
    log: Option<Log>,
    verification: Verification,
    /// Verification is switched off.
    is_unverified: bool,
    /// For the verification.
    closers: Option<Arc<Closers>>,
    /// Dropping it detaches everything; the last field, so dropped last.
    probe: Probe,
}

/// What is looked at before privileges are given up: who listens, and what namespaces
/// there are.
pub(super) struct Early {
    namespaces: Namespaces,
    attributor: Attributor,
}

impl Early {
    pub(super) fn look() -> Self {
        Self {
            namespaces: Namespaces::new(),
            attributor: Attributor::new(),
        }
    }
}

/// The kernel side's diagnostics, for `-v`.
type Log = aya_log::EbpfLogger<&'static dyn log::Log>;

/// What there is to do.
pub(super) enum Ready {
    /// Something to [`Session::drain`].
    Ring,
    Finding(Answer),
    View(view::Event),
    /// A scrape to [`Session::answer`].
    Scrape(Question),
    /// Something to [`Session::verify`].
    Verification(verify::Event),
}

impl Session {
    pub(super) fn new(
        mut probe: Probe,
        early: Early,
        prepared: Prepared,
        arguments: &Run,
        output: Output,
    ) -> Result<Self> {
        let Early {
            mut namespaces,
            attributor,
        } = early;
        let live = Live::new(probe.take_map::<aya::maps::RingBuf<_>>("EVENTS")?)?;
        let counters = Counters::new(&mut probe)?;
        let log = if arguments.verbose {
            Some(kernel_log(&mut probe)?)
        } else {
            None
        };
        let sees_closers = probe.serves(Purpose::Closer);
        let sees_accepts = probe.serves(Purpose::Acceptor);
        let closers = sees_closers.then(|| Closers::new(&mut probe)).transpose()?;
        let closers = closers.map(Arc::new);
        let verification = Verification::new(&mut probe, prepared, !arguments.drop_all)?;
        let baseline = Reading::take(&counters, &mut namespaces)?;
        namespaces.start_here();
        Ok(Self {
            live,
            counters,
            namespaces,
            baseline,
            attributor,
            explainer: Explainer::new(closers.clone(), sees_accepts)?,
            output,
            filter: arguments.filter.clone(),
            wanted: arguments.count.map(Into::into),
            shown: 0,
            hidden: 0,
            malformed: 0,
            lost_shown: 0,
            since: Timestamp::now(),
            verbose: arguments.verbose,
            log,
            verification,
            is_unverified: arguments.no_verify,
            closers,
            probe,
        })
    }

    /// Says that everything is in place.
    pub(super) fn start(&mut self, startup: &Startup) -> Result<()> {
        self.since = startup.time;
        self.output.startup(startup, self.verbose)?;
        if self.is_unverified
            && let Some(verified) = self.verification.switch_off(&self.probe.served)
        {
            self.output.record(Record::Verified(&verified))?;
            self.output.flush()?;
        }
        Ok(())
    }

    /// Goes on with the verification.
    pub(super) async fn verify(&mut self, event: verify::Event) -> Result<()> {
        let next = self.verification.handle(event, &self.probe.served).await;
        if next == Next::Nothing {
            return Ok(());
        }
        self.drain(Live::CAPACITY)?;
        if next == Next::Forget {
            self.verification.forget();
            return Ok(());
        }
        let closers = self.closers.as_deref();
        if let Some(verified) = self.verification.judge(&mut self.probe, closers).await {
            self.explainer
                .sees_accepts(self.probe.serves(Purpose::Acceptor));
            self.output.record(Record::Verified(&verified))?;
            self.output.flush()?;
        }
        Ok(())
    }

    /// Waits for something to do. Safe to cancel.
    pub(super) async fn wait(&mut self) -> io::Result<Ready> {
        tokio::select! {
            biased;
            answer = self.explainer.answer() => Ok(Ready::Finding(answer)),
            event = self.verification.wait() => Ok(Ready::Verification(event)),
            asked = self.output.asked() => Ok(match asked {
                Asked::View(event) => Ready::View(event),
                Asked::Scrape(question) => Ready::Scrape(question),
            }),
            ring = self.live.wait() => ring.map(|()| Ready::Ring),
        }
    }

    /// Does what somebody at the terminal wants.
    pub(super) fn view(&mut self, event: view::Event) -> Result<Wish> {
        let Some(view) = self.output.view() else {
            return Ok(Wish::GoOn);
        };
        view.tick(Timestamp::now());
        Ok(view.handle(event)?)
    }

    /// Shows what was found out.
    pub(super) fn found(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Census(mut census) => {
                census.netns_name = self.namespaces.name(census.netns);
                self.output.record(Record::Census(&census))?;
            }
            Answer::Queue(finding) => self.output.record(Record::Queue(&finding))?,
            Answer::NoCensus(id, scope, why) => {
                let record = Record::NoCensus(Timestamp::now(), id, &scope, &why);
                self.output.record(record)?;
            }
        }
        Ok(self.output.flush()?)
    }

    /// Shows up to `limit` records of the ring.
    pub(super) fn drain(&mut self, limit: usize) -> Result<()> {
        for _ in 0..limit {
            if self.is_satisfied() {
                break;
            }
            let Some(bytes) = self.live.take() else { break };
            self.show(&bytes)?;
        }
        Ok(self.output.flush()?)
    }

    fn show(&mut self, bytes: &[u8]) -> Result<()> {
        let Ok(event) = decode(bytes) else {
            self.malformed += 1;
            return Ok(());
        };
        if self.verification.takes(&event) {
            return Ok(());
        }
        self.namespaces.notice(event.raw.netns);
        let mut failure = self.attributor.attribute(&event);
        failure.netns_name = self.namespaces.name(failure.netns);
        if !self.filter.is_off() && !self.filter.wants(&Facts::from(&failure)) {
            self.hidden += 1;
            return Ok(());
        }
        self.explainer.explain(&mut failure, event.raw.accepts);
        self.output.record(Record::Failure(&failure))?;
        self.shown += 1;
        Ok(())
    }

    /// Whether `--count` events have been shown.
    pub(super) fn is_satisfied(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.shown >= wanted)
    }

    /// Once a second: new namespaces, losses, diagnostics.
    pub(super) fn housekeeping(&mut self) -> Result<()> {
        self.namespaces.refresh_when_due();
        self.explainer.tell_queues(false);
        if let Some(log) = &mut self.log {
            log.flush();
        }
        if self.output.view().is_some() {
            let totals = self.count(false)?;
            if let Some(view) = self.output.view() {
                view.record(Record::Totals(&totals));
            }
        }
        self.show_losses()
    }

    fn show_losses(&mut self) -> Result<()> {
        let lost = self.lost()?;
        let new = lost.saturating_sub(self.lost_shown);
        if new > 0 {
            self.output.record(Record::Lost(Timestamp::now(), new))?;
            self.lost_shown = lost;
        }
        Ok(self.output.flush()?)
    }

    /// Descriptions that did not fit. A failure that is being counted right now
    /// looks lost until it is described, so the least of a few readings counts.
    fn lost(&self) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..3 {
            least = least.min(self.counters.health()?.lost());
        }
        Ok(least)
    }

    /// Shows the totals so far.
    pub(super) fn totals(&mut self, is_final: bool) -> Result<()> {
        self.namespaces.refresh();
        let totals = self.count(is_final)?;
        self.output.record(Record::Totals(&totals))?;
        Ok(self.output.flush()?)
    }

    /// Answers a scrape.
    pub(super) fn answer(&mut self, question: Question) -> Result<()> {
        let totals = self.count(false)?;
        self.output.answer(question, totals);
        Ok(())
    }

    fn count(&mut self, is_final: bool) -> Result<Totals> {
        let reading = Reading::take(&self.counters, &mut self.namespaces)?;
        let health = self.counters.health()?;
        Ok(Totals {
            time: Timestamp::now(),
            since: self.since,
            is_final,
            health: health.without(self.hidden),
            filtered_in_kernel: health.filtered,
            malformed: self.malformed,
            rows: reconcile(
                &reading.since(&self.baseline),
                health.unplaced,
                &self.namespaces.deltas(),
            ),
            meanwhile: self.baseline.meanwhile + reading.meanwhile,
            counts: reading.counts,
            netns_names: self.namespaces.names(),
        })
    }

    /// Shows what is left, the totals and the end.
    pub(super) async fn finish(mut self, reason: &'static str, exit_code: u8) -> Result<()> {
        self.output.leave()?;
        // What is in the ring now, and not what a flood adds meanwhile.
        self.drain(Live::CAPACITY)?;
        if let Some(verified) = self.verification.give_up(&self.probe.served) {
            self.output.record(Record::Verified(&verified))?;
        }
        self.explainer.tell_queues(true);
        for answer in self.explainer.rest().await {
            self.found(answer)?;
        }
        // What came while findings were waited for is not explained any more.
        self.drain(Live::CAPACITY)?;
        self.show_losses()?;
        self.totals(true)?;
        self.output.record(Record::End(&End {
            time: Timestamp::now(),
            reason: reason.to_owned(),
            exit_code,
        }))?;
        Ok(self.output.finish()?)
    }
}

fn kernel_log(probe: &mut Probe) -> Result<Log> {
    static STDERR: Stderr = Stderr;
    aya_log::EbpfLogger::init_with_logger(probe.bpf_mut(), &STDERR as &'static dyn log::Log)
        .context("the kernel side's diagnostics cannot be read")
}

/// Writes diagnostics to standard error.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say(&format!("tracer: kernel: {}", record.args()));
    }

    fn flush(&self) {}
}

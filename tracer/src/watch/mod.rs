//! `tracer watch` and `tracer record`: the loop from hook to output.

mod child;
mod explainer;
mod ledger;
mod reading;
mod session;

use std::{os::unix::ffi::OsStrExt, time::Duration};

use anyhow::Context;
use jiff::tz::TimeZone;
use rustix::process;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    cli::{self, Format, Run},
    exit::{Failed, is_broken_pipe},
    host::{privileges, reduce},
    output::{self, Output, sanitize::printable, say},
    probe::Probe,
    startup::{self, Startup},
    verify::{self, Prepared},
    view::{self, Scene, Wish},
};
use child::{Child, Waiting};
use session::{Early, Ready, Session};

/// How often namespaces are looked for and losses are reported.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Far enough to mean never.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Interrupted,
    Duration,
    Count,
    CommandExited(u8),
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Duration => "duration",
            Self::Count => "count",
            Self::CommandExited(_) => "command_exited",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::CommandExited(code) => code,
            _ => 0,
        }
    }
}

/// `tracer watch`: shows records until told to stop; returns the exit code.
///
/// # Errors
/// See [`Failed`]. A closed standard output is no error: nobody reads on.
pub(crate) fn watch(arguments: &cli::Watch) -> Result<u8, Failed> {
    let output = match wants_view(arguments) {
        true => Output::full_screen(scene(arguments), arguments.capture()),
        false => Output::new(Some(arguments.format), arguments.capture()),
    };
    run(&arguments.run, arguments.interval, output)
}

/// A command has the terminal for itself.
fn wants_view(arguments: &cli::Watch) -> bool {
    arguments.format == Format::Text
        && !arguments.plain
        && arguments.run.command.is_empty()
        && view::is_possible()
}

fn scene(arguments: &cli::Watch) -> Scene {
    let capture = arguments.capture().map(|options| options.path);
    let filter = &arguments.run.filter;
    Scene {
        capture: capture.map(|path| printable(path.as_os_str().as_bytes())),
        only: (!filter.is_off()).then(|| printable(filter.words().join(", ").as_bytes())),
        is_replay: false,
        zone: TimeZone::system(),
        has_colour: output::has_colour(),
    }
}

/// `tracer record`: the same for a capture that nobody watches.
///
/// # Errors
/// As for [`watch`].
pub(crate) fn record(arguments: &cli::Record) -> Result<u8, Failed> {
    let output = Output::new(None, Some(arguments.capture()));
    run(&arguments.run, Some(arguments.interval), output)
}

fn run(arguments: &Run, interval: Option<Duration>, output: Output) -> Result<u8, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    match runtime.block_on(trace(arguments, interval, output)) {
        Err(Failed::Running(error)) if is_broken_pipe(&error) => Ok(0),
        result => result,
    }
}

async fn trace(arguments: &Run, interval: Option<Duration>, output: Output) -> Result<u8, Failed> {
    let mut output = output.with_metrics(arguments.metrics);
    #[cfg(feature = "otlp")]
    {
        output = output.with_otlp(arguments.otlp.clone());
    }
    // Before anything is attached, so that no signal finds the default action.
    let mut signals = Signals::new()?;
    let privileges = startup::permitted()?;
    // Attaching takes a while: what is wrong with file or address is said at once.
    output.reserve()?;
    // The namespace is made while the kernel is busy with the programs.
    let prepared = match arguments.no_verify {
        true => Prepared::Not(verify::SWITCHED_OFF.to_owned()),
        false => Prepared::start(),
    };
    let (probe, mut startup) = startup::attach(arguments, privileges)?;
    let early = Early::look();
    if output.has_json() {
        startup.look_around();
    }
    // It keeps the privileges that tracer was started with; tracer does not.
    let command = Waiting::new(&arguments.command)?;
    give_up_privileges(arguments, &probe, &mut startup, &output)?;
    let mut session = Session::new(probe, early, prepared, arguments, output)?;
    startup.unmatched = session.unmatched();
    for sentence in &startup.unmatched {
        say(&format!("tracer: {}", printable(sentence.as_bytes())));
    }
    session.start(&startup)?;
    let mut child = command.spawn()?;
    let period = interval.unwrap_or(NEVER);
    let reason = watch_until(&mut session, &mut signals, &mut child, arguments, period).await?;
    session.finish(reason.name(), reason.exit_code()).await?;
    Ok(reason.exit_code())
}

/// Everything that needs them is open, and there is no other thread yet but that of a
/// command, which is going to end.
fn give_up_privileges(
    arguments: &Run,
    probe: &Probe,
    startup: &mut Startup,
    output: &Output,
) -> Result<(), anyhow::Error> {
    let wish = privileges::Wish {
        drops_all: arguments.drop_all,
        has_command: !arguments.command.is_empty(),
    };
    let kept = reduce::reduce(wish, || probe.can_read(), output.written())?;
    if arguments.drop_all {
        startup
            .degradations
            .push(privileges::COST_OF_NONE.to_owned());
    }
    if arguments.verbose {
        let names = match reduce::names(kept) {
            names if names.is_empty() => "none".to_owned(),
            names => names.join(", "),
        };
        say(&format!("tracer: privileges kept: {names}"));
    }
    Ok(())
}

async fn watch_until(
    session: &mut Session,
    signals: &mut Signals,
    child: &mut Child,
    arguments: &Run,
    period: Duration,
) -> Result<Reason, anyhow::Error> {
    let start = Instant::now();
    let deadline = start + arguments.duration.unwrap_or(NEVER);
    let mut interval = interval_at(start + period, period);
    let mut housekeeping = interval_at(start + HOUSEKEEPING, HOUSEKEEPING);
    for timer in [&mut interval, &mut housekeeping] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    }
    loop {
        tokio::select! {
            // In this order: under a flood the ring is always ready, and
            // Ctrl-C must not wait for it.
            biased;
            signal = signals.next() => match child.pass_on(signal) {
                true => {}
                false => return Ok(Reason::Interrupted),
            },
            code = child.exited() => return Ok(Reason::CommandExited(code?)),
            () = sleep_until(deadline) => return Ok(Reason::Duration),
            _ = interval.tick() => session.totals(false)?,
            _ = housekeeping.tick() => {
                child.reap();
                session.housekeeping()?;
            }
            ready = session.wait() => match ready.context("the ring buffer cannot be polled")? {
                Ready::Ring => session.drain(BATCH)?,
                Ready::Finding(answer) => session.found(answer)?,
                Ready::View(event) => match session.view(event)? {
                    Wish::GoOn => {}
                    Wish::Quit => return Ok(Reason::Interrupted),
                },
                Ready::Scrape(question) => session.answer(question)?,
                Ready::Verification(event) => session.verify(event).await?,
            }
        }
        if session.is_satisfied() {
            return Ok(Reason::Count);
        }
    }
}

/// How many records are handled before signals and timers get their turn.
const BATCH: usize = 1024;

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> process::Signal {
        tokio::select! {
            _ = self.interrupt.recv() => process::Signal::INT,
            _ = self.terminate.recv() => process::Signal::TERM,
        }
    }
}

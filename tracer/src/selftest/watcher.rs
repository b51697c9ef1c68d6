//! The very `tracer watch` that a user would run, and what it tells about our
//! namespaces.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::stage::Ours;
use crate::{
    exit::Failed,
    explain::finding::Census,
    host::plan::Choice,
    model::Failure,
    record::Totals,
    replay::parse::{Parsed, parse},
    startup::Startup,
};

/// If this program is killed and nobody tells the watcher, it ends by itself.
const AT_MOST: &str = "300s";

/// A running watcher.
pub(super) struct Watcher {
    pub(super) startup: Startup,
    process: Child,
    records: Receiver<Parsed>,
    heard: Heard,
}

/// All it told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) failures: Vec<Failure>,
    pub(super) censuses: Vec<Census>,
    /// Why one could not be taken: namespace and reason.
    pub(super) no_census: Vec<(u32, String)>,
    /// The last ones.
    pub(super) totals: Option<Totals>,
}

impl Heard {
    fn note(&mut self, record: Parsed) {
        match record {
            Parsed::Failure(failure) => self.failures.push(failure),
            Parsed::Census(census) => self.censuses.push(census),
            Parsed::NoCensus(_, _, scope, why) => self.no_census.push((scope.netns.inum, why)),
            Parsed::Totals(totals) => self.totals = Some(totals),
            _ => {}
        }
    }

    /// Whether the census of this namespace has come, or cannot come.
    pub(super) fn has_census(&self, netns: u32) -> bool {
        self.censuses.iter().any(|census| census.netns == netns)
            || self.no_census.iter().any(|(other, _)| *other == netns)
    }
}

/// How a start ended.
pub(super) enum Start {
    Ready(Box<Watcher>),
    /// It ended with this exit code, and said why.
    Refused(u8),
}

impl Watcher {
    /// Starts it and waits until everything is attached. To be called on the main
    /// thread: the watcher ends with the thread that started it.
    ///
    /// # Errors
    /// This program cannot be started again, or speaks another language.
    pub(super) fn start(choice: Choice, ours: &Ours) -> Result<Start, Failed> {
        let hooks = choice.to_possible_value();
        let hooks = hooks.as_ref().map_or("auto", |hooks| hooks.get_name());
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["watch", "--format", "json", "--hooks", hooks])
            // The same failures, by less than is played here.
            .arg("--no-verify")
            .args(["--duration", AT_MOST])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let end_with_us = || Ok(set_parent_process_death_signal(Some(Signal::TERM))?);
        // SAFETY: the closure makes one system call, which is async-signal-safe.
        unsafe { command.pre_exec(end_with_us) };
        let mut process = command.spawn().context("tracer cannot be started again")?;
        let stdout = process.stdout.take().context("no channel to tracer")?;
        let (heard, records) = mpsc::channel();
        let ours = ours.clone();
        thread::Builder::new()
            .name("tracer-heard".into())
            .spawn(move || listen(stdout, &ours, &heard))
            .context("no thread")?;
        match records.recv() {
            Ok(Parsed::Startup(startup)) => {
                let watcher = Self {
                    startup,
                    process,
                    records,
                    heard: Heard::default(),
                };
                Ok(Start::Ready(Box::new(watcher)))
            }
            Ok(_) => Err(anyhow!("the first record is not startup").into()),
            Err(_) => {
                let code = process.wait().context("tracer watch")?.code();
                let code = code.and_then(|code| u8::try_from(code).ok());
                Ok(Start::Refused(code.unwrap_or(1)))
            }
        }
    }

    /// Listens until that is enough, but no longer than `limit`.
    pub(super) fn hear(&mut self, limit: Duration, is_enough: impl Fn(&Heard) -> bool) {
        let end = Instant::now() + limit;
        while !is_enough(&self.heard) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(record) = self.records.recv_timeout(left) else {
                return;
            };
            self.heard.note(record);
        }
    }

    /// Ends it, as Ctrl-C does, and hears it out.
    ///
    /// # Errors
    /// It ended badly.
    pub(super) fn finish(mut self) -> Result<Heard> {
        kill_process(Pid::from_child(&self.process), Signal::INT)
            .context("tracer watch has ended early")?;
        while let Ok(record) = self.records.recv() {
            self.heard.note(record);
        }
        let status = self.process.wait().context("tracer watch")?;
        if !status.success() {
            return Err(anyhow!("tracer watch ended with {status}"));
        }
        Ok(std::mem::take(&mut self.heard))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads on while it writes: it must never wait for us. What happens elsewhere on
/// the host is not kept.
fn listen(stdout: ChildStdout, ours: &Ours, heard: &Sender<Parsed>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let Ok(value) = serde_json::from_slice(&line) else {
            continue;
        };
        let Ok(record) = parse(&value) else { continue };
        let is_wanted = match &record {
            Parsed::Failure(failure) => ours.has(failure.netns),
            Parsed::Census(census) => ours.has(census.netns),
            Parsed::NoCensus(_, _, scope, _) => ours.has(scope.netns.inum),
            Parsed::Startup(_) | Parsed::Totals(_) => true,
            _ => false,
        };
        if is_wanted && heard.send(record).is_err() {
            return;
        }
    }
}

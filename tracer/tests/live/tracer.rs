//! The program under test: started, read, awaited, stopped.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::{expect, limits, say, sys};

/// A running `tracer watch`, and all it said.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Mutex<Child>,
    said: Arc<Said>,
    /// Its first record.
    pub(crate) startup: Value,
}

/// How a start ended.
pub(crate) enum Start {
    /// Attached.
    Ready(Box<Tracer>),
    /// It ended before it was ready: exit code and what it said about that.
    Refused(Option<i32>, String),
}

#[derive(Debug, Default)]
struct Said {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Value>,
    /// The events among them by namespace: a flood has thousands.
    events: HashMap<u64, Vec<Value>>,
    broken: Option<String>,
    stdout_ended: bool,
    stderr: String,
}

impl State {
    fn take(&mut self, line: &str) {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            self.broken = Some(line.to_owned());
            return;
        };
        match record["netns"]
            .as_u64()
            .filter(|_| record["type"] == "event")
        {
            Some(netns) => self.events.entry(netns).or_default().push(record),
            None => self.records.push(record),
        }
    }

    fn events_in(&self, netns: u64) -> &[Value] {
        self.events.get(&netns).map_or(&[], Vec::as_slice)
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `ready` gives something; `None` after `limit`.
    fn wait<T>(&self, limit: Duration, ready: impl Fn(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = ready(&state) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// `tracer watch`. Dies with us: a harness that fails must leave no tracer behind.
pub(crate) fn command(path: &Path) -> Command {
    verb(path, "watch")
}

/// Any verb, likewise.
pub(crate) fn verb(path: &Path, verb: &str) -> Command {
    let mut command = Command::new(path);
    let bind_life = || {
        // SAFETY: no memory is passed.
        sys::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }).map(|_| ())
    };
    // SAFETY: the closure only calls prctl, which is async-signal-safe.
    unsafe { command.pre_exec(bind_life) };
    command.arg(verb).stdin(Stdio::null());
    command
}

impl Tracer {
    /// Starts it with JSON output and waits until it is attached. To be called on a
    /// thread that lives as long as tracer shall (see `command`).
    pub(crate) fn start(path: &Path, arguments: &[&str]) -> Result<Start> {
        let mut command = command(path);
        // What is to be run comes last.
        command.args(["--format", "json"]).args(arguments);
        Self::wait(command)
    }

    /// The same, if the command was made by [`command`] and is special in other ways.
    pub(crate) fn of(mut command: Command) -> Result<Start> {
        command.args(["--format", "json"]);
        Self::wait(command)
    }

    fn wait(mut command: Command) -> Result<Start> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let said = Arc::new(Said::default());
        listen(&mut child, &said)?;
        let first = said.wait(limits::attach(), |state| {
            let ended = state.stdout_ended.then_some(None);
            state
                .records
                .first()
                .map(|first| Some(first.clone()))
                .or(ended)
        });
        match first {
            None => {
                sys::signal(i32::try_from(child.id())?, libc::SIGKILL)?;
                child.wait()?;
                bail!("tracer was not ready in time: {}", said.lock().stderr);
            }
            Some(None) => {
                let code = child.wait()?.code();
                let state = said.lock();
                Ok(Start::Refused(code, say::flat(&state.stderr)))
            }
            Some(Some(startup)) => {
                ensure!(
                    startup["type"] == "startup",
                    "the first record is not startup: {startup}"
                );
                Ok(Start::Ready(Box::new(Self {
                    child: Mutex::new(child),
                    said,
                    startup,
                })))
            }
        }
    }

    /// A start that must succeed.
    pub(crate) fn started(path: &Path, arguments: &[&str]) -> Result<Self> {
        match Self::start(path, arguments)? {
            Start::Ready(tracer) => Ok(*tracer),
            Start::Refused(code, why) => bail!("tracer ended at once with {code:?}: {why}"),
        }
    }

    /// What the startup record says about a purpose: (tier, exactness, reason).
    pub(crate) fn hook(&self, purpose: &str) -> (String, String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.startup["hooks"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|hook| hook["purpose"] == purpose)
            .map(|hook| {
                (
                    text(&hook["tier"]),
                    text(&hook["exactness"]),
                    text(&hook["reason"]),
                )
            })
            .unwrap_or_else(|| {
                let absent = format!("startup names no purpose {purpose}");
                ("none".to_owned(), "none".to_owned(), absent)
            })
    }

    /// By purpose, the tier and the programs that the startup record names.
    pub(crate) fn programs(&self) -> BTreeMap<String, String> {
        let hooks = self.startup["hooks"].as_array().into_iter().flatten();
        let one = |hook: &Value| {
            let purpose = hook["purpose"].as_str().unwrap_or_default().to_owned();
            (purpose, format!("{} {}", hook["tier"], hook["programs"]))
        };
        hooks.map(one).collect()
    }

    /// All events so far of one namespace.
    pub(crate) fn events_in(&self, netns: u64) -> Vec<Value> {
        self.said.lock().events_in(netns).to_vec()
    }

    /// How many failures all its events together stand for.
    pub(crate) fn told_in_all(&self) -> u64 {
        let state = self.said.lock();
        state.events.values().flatten().map(expect::weight).sum()
    }

    /// Waits until `enough` likes the events of one namespace; false when it never did.
    pub(crate) fn await_events(&self, netns: u64, enough: impl Fn(&[Value]) -> bool) -> bool {
        self.said
            .wait(limits::told(), |state| {
                let seen = enough(state.events_in(netns));
                (seen || state.stdout_ended).then_some(seen)
            })
            .unwrap_or(false)
    }

    /// Waits for a record that is no event.
    pub(crate) fn await_record(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.said
            .wait(limits::attach(), |state| {
                state.records.iter().find(|record| wanted(record)).cloned()
            })
            .with_context(|| format!("the awaited record never came; seen: {:?}", self.records()))
    }

    /// Everything it said on stdout so far, without the events.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.said.lock().records.clone()
    }

    /// Everything it said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.said.lock().stderr.clone()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sys::signal(i32::try_from(child.id())?, signal)?)
    }

    /// Waits for its end; kills it when that takes too long.
    pub(crate) fn ended(&self) -> Result<ExitStatus> {
        let done = self
            .said
            .wait(limits::attach(), |state| state.stdout_ended.then_some(()));
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if done.is_none() {
            child.kill()?;
            child.wait()?;
            bail!("tracer did not end in time; stderr: {}", self.stderr());
        }
        let status = child.wait()?;
        match &self.said.lock().broken {
            Some(broken) => Err(anyhow!("a line is no JSON: {broken}")),
            None => Ok(status),
        }
    }

    /// Ctrl-C, then its last records.
    pub(crate) fn stop(&self) -> Result<Vec<Value>> {
        self.signal(libc::SIGINT)
            .context("tracer is gone already")?;
        let status = self.ended()?;
        ensure!(
            status.code() == Some(0),
            "tracer ended with {status} after SIGINT; stderr: {}",
            self.stderr()
        );
        Ok(self.records())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The final totals among `records`.
pub(crate) fn final_totals(records: &[Value]) -> Result<&Value> {
    records
        .iter()
        .rfind(|record| record["type"] == "totals" && record["final"] == true)
        .context("tracer gave no final totals")
}

/// Collects both outputs on threads of their own.
fn listen(child: &mut Child, said: &Arc<Said>) -> Result<()> {
    let stdout = child.stdout.take().context("no stdout")?;
    let mut stderr = child.stderr.take().context("no stderr")?;
    let to = Arc::clone(said);
    let errors = std::thread::spawn(move || {
        let mut bytes = [0_u8; 4096];
        while let Ok(len @ 1..) = stderr.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
            to.change(|state| state.stderr.push_str(&text));
        }
    });
    let to = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            to.change(|state| state.take(&line));
        }
        let _ = errors.join();
        to.change(|state| state.stdout_ended = true);
    });
    Ok(())
}

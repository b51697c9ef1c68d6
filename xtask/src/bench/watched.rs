//! A program that traces while loads run: tracer, or one beside it.

use crate::cases;
use crate::run;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For its start, and for its end.
const LIMIT: Duration = Duration::from_secs(30);

/// A line, and when it was read: seconds since 1970.
pub(super) type Line = (f64, String);

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// A running program.
#[derive(Debug)]
pub(super) struct Watched {
    child: Child,
    lines: Receiver<Line>,
    seen: Vec<Line>,
    errors: Option<JoinHandle<String>>,
    /// From exec to the line that says it is ready.
    pub(super) start: Duration,
}

impl Watched {
    /// Starts it and waits for a line with `ready`.
    pub(super) fn start(words: &[&str], ready: &str) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = run::spawn(&mut command)?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut stderr = child.stderr.take().context("no stderr")?;
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to.send((now(), line)).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut watched = Self {
            child,
            lines,
            seen: Vec::new(),
            errors: Some(errors),
            start: Duration::ZERO,
        };
        watched.await_line(ready)?;
        watched.start = begun.elapsed();
        Ok(watched)
    }

    /// `tracer watch`, once it is attached.
    pub(super) fn tracer(tracer: &str, flags: &[&str]) -> Result<Self> {
        let words = [&[tracer, "watch", "--format", "json"], flags].concat();
        Self::start(&words, "\"type\":\"startup\"")
    }

    /// `bpftrace -e SCRIPT`, once it has attached what it wanted.
    pub(super) fn bpftrace(script: &str) -> Result<Self> {
        // It says nothing after it has attached: an interval, which comes last, does.
        let script = format!("{script} interval:ms:10 {{ printf(\"ready\\n\"); }}");
        Self::start(&["bpftrace", "-e", &script], "ready")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line with `text`, and when it was read.
    pub(super) fn await_line(&mut self, text: &str) -> Result<Line> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.1.contains(text);
                    self.seen.push(line.clone());
                    if found {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("no line with {text}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let said = self.errors.take().and_then(|errors| errors.join().ok());
                    bail!(one_line(&said.unwrap_or_default()));
                }
            }
        }
    }

    /// All lines until now; they are forgotten.
    pub(super) fn taken(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.seen)
    }

    /// Ctrl-C; all its lines.
    pub(super) fn stop(mut self) -> Result<Vec<Line>> {
        cases::lab::signal("INT", self.child.id())?;
        // A full pipe is no reason to wait: its lines are read meanwhile.
        if run::wait_at_most(&mut self.child, LIMIT)?.is_none() {
            bail!("it had to be killed");
        }
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        Ok(lines)
    }
}

/// How it began to say why it ended.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).take(2).collect();
    lines.join(" ").replace('|', "/")
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

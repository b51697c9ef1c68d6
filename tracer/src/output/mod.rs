//! The only place that prints. Data goes to standard output and into a capture,
//! everything else to standard error.

pub(crate) mod json;
pub(crate) mod print;
#[cfg(test)]
mod replayed;
pub(crate) mod sanitize;
mod text;
pub(crate) mod words;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    capture::{
        Gap,
        write::{Options, Writer},
    },
    cli::Format,
    explain::{
        census::Scope,
        finding::{Census, QueueFinding},
    },
    model::Failure,
    reconcile::Row,
    source::counters::{Counts, Health},
    startup::Startup,
};

/// What a `totals` record tells; everything since tracer attached.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) time: Timestamp,
    pub(crate) since: Timestamp,
    /// The last one.
    pub(crate) is_final: bool,
    pub(crate) health: Health,
    /// Records of the ring that could not be decoded.
    pub(crate) malformed: u64,
    pub(crate) counts: Counts,
    pub(crate) rows: Vec<Row>,
    /// Drops counted while the kernel's counters were being read: a difference
    /// up to this says nothing.
    pub(crate) meanwhile: u64,
}

/// What an `end` record tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) time: Timestamp,
    pub(crate) reason: &'static str,
    pub(crate) exit_code: u8,
}

/// Where records go: to who watches, into a capture, or both.
pub(crate) struct Output {
    /// Standard output; `None`: nobody watches.
    screen: Option<Screen>,
    /// Where the capture will be.
    planned: Option<Options>,
    capture: Option<Writer>,
}

struct Screen {
    out: io::BufWriter<io::Stdout>,
    style: Style,
}

enum Style {
    Text(text::Style),
    Json,
}

impl Output {
    /// For this format, to wherever standard output goes; without one, to the
    /// capture alone.
    pub(crate) fn new(format: Option<Format>, capture: Option<Options>) -> Self {
        let style = |format| match format {
            Format::Json => Style::Json,
            Format::Text => Style::Text(text::Style::detect(io::stdout().is_terminal())),
        };
        Self {
            screen: format.map(|format| Screen {
                out: io::BufWriter::new(io::stdout()),
                style: style(format),
            }),
            planned: capture,
            capture: None,
        }
    }

    /// Whether records are written as JSON anywhere.
    pub(crate) fn has_json(&self) -> bool {
        let is_json = |screen: &Screen| matches!(screen.style, Style::Json);
        self.planned.is_some() || self.screen.as_ref().is_some_and(is_json)
    }

    /// The file that the capture will be, if it is one.
    pub(crate) fn written(&self) -> Option<&Path> {
        let planned = self.planned.as_ref()?;
        (!planned.is_stdout()).then_some(planned.path.as_path())
    }

    /// Writes one record to all who want it, as JSON or as text; each is made only
    /// if needed, and once.
    fn record(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(&text::Style) -> String,
    ) -> io::Result<()> {
        let line = if self.has_json() {
            format!("{}\n", json())
        } else {
            String::new()
        };
        if let Some(capture) = &mut self.capture {
            capture.write(line.as_bytes())?;
        }
        match &mut self.screen {
            None => Ok(()),
            Some(Screen { out, style }) => match style {
                Style::Json => out.write_all(line.as_bytes()),
                Style::Text(style) => out.write_all(text(style).as_bytes()),
            },
        }
    }

    /// Begins the capture, too.
    ///
    /// # Errors
    /// The capture cannot be begun, or standard output cannot be written, as for
    /// every method here.
    pub(crate) fn startup(&mut self, startup: &Startup, verbose: bool) -> anyhow::Result<()> {
        // Before anything is said: if it cannot be begun, that is all there is to say.
        if let Some(options) = &self.planned {
            let line = format!("{}\n", json::startup(startup));
            self.capture = Some(Writer::start(options, &line)?);
        }
        match &mut self.screen {
            None => say(&text::startup(startup, verbose)),
            Some(Screen { out, style }) => match style {
                Style::Json => writeln!(out, "{}", json::startup(startup))?,
                Style::Text(style) => {
                    say(&text::startup(startup, verbose));
                    out.write_all(style.header().as_bytes())?;
                }
            },
        }
        Ok(self.flush()?)
    }

    /// A record as it was written once.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.screen {
            None => Ok(()),
            Some(Screen { out, .. }) => {
                out.write_all(line)?;
                out.write_all(b"\n")
            }
        }
    }

    pub(crate) fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        self.record(
            || json::failure(failure),
            |style| style.failure(failure) + "\n",
        )
    }

    pub(crate) fn census(&mut self, census: &Census) -> io::Result<()> {
        self.record(
            || json::findings::census(census),
            |style| style.census(census),
        )
    }

    pub(crate) fn queue(&mut self, finding: &QueueFinding) -> io::Result<()> {
        self.record(
            || json::findings::queue_finding(finding),
            |style| style.queue(finding),
        )
    }

    /// A census that could not be taken.
    pub(crate) fn no_census(
        &mut self,
        time: Timestamp,
        id: u64,
        scope: &Scope,
        why: &str,
    ) -> io::Result<()> {
        self.record(
            || json::findings::no_census(time, id, scope, why),
            |_| format!("   census {id} cannot be taken: {why}\n"),
        )
    }

    pub(crate) fn lost(&mut self, time: Timestamp, count: u64) -> io::Result<()> {
        self.record(
            || json::lost(time, count),
            |_| {
                format!(
                    "-- {count} failures were counted but not described: the ring buffer was full\n"
                )
            },
        )
    }

    /// What a capture lacks, when it is shown.
    pub(crate) fn gap(&mut self, time: Timestamp, gap: &Gap) -> io::Result<()> {
        self.record(|| json::gap(time, gap), |style| style.gap(gap))
    }

    pub(crate) fn totals(&mut self, totals: &Totals) -> io::Result<()> {
        self.record(|| json::totals(totals), |_| text::totals(totals))?;
        self.flush()
    }

    /// Ends the capture, too.
    pub(crate) fn end(&mut self, end: &End) -> io::Result<()> {
        self.record(|| json::end(end), |_| String::new())?;
        self.flush()?;
        self.capture.as_mut().map_or(Ok(()), Writer::finish)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(capture) = &self.capture {
            capture.check()?;
        }
        self.screen
            .as_mut()
            .map_or(Ok(()), |screen| screen.out.flush())
    }
}

/// Prints what was asked for instead of a run: help or version. A closed
/// standard output is no failure: nobody reads on.
pub(crate) fn answer(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Says something to the person at the terminal.
#[expect(
    clippy::print_stderr,
    reason = "the one place that writes to standard error"
)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

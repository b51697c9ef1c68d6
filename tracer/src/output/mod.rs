//! The only place that prints. Data goes to standard output, everything else
//! to standard error.

mod json;
pub(crate) mod print;
#[cfg(test)]
mod replayed;
pub(crate) mod sanitize;
mod text;
pub(crate) mod words;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use jiff::Timestamp;

use crate::{
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

/// What a `gap` record tells: what a capture lacks because it could not be
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// When the first of the records was to be written.
    pub(crate) since: Timestamp,
    pub(crate) records: u64,
    pub(crate) reason: String,
}

/// Writes records to standard output.
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
    style: Style,
}

enum Style {
    Text(text::Style),
    Json,
}

impl Output {
    /// For this format, to wherever standard output goes.
    pub(crate) fn new(format: Format) -> Self {
        let style = match format {
            Format::Json => Style::Json,
            Format::Text => Style::Text(text::Style::detect(io::stdout().is_terminal())),
        };
        Self {
            out: io::BufWriter::new(io::stdout()),
            style,
        }
    }

    /// # Errors
    /// Standard output cannot be written, as for every method here.
    pub(crate) fn startup(&mut self, startup: &Startup, verbose: bool) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::startup(startup))?,
            Style::Text(style) => {
                say(&text::startup(startup, verbose));
                self.out.write_all(style.header().as_bytes())?;
            }
        }
        self.flush()
    }

    /// A record as it was written once.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }

    pub(crate) fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::failure(failure)),
            Style::Text(style) => writeln!(self.out, "{}", style.failure(failure)),
        }
    }

    pub(crate) fn census(&mut self, census: &Census) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::findings::census(census)),
            Style::Text(style) => self.out.write_all(style.census(census).as_bytes()),
        }
    }

    pub(crate) fn queue(&mut self, finding: &QueueFinding) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::findings::queue_finding(finding)),
            Style::Text(style) => self.out.write_all(style.queue(finding).as_bytes()),
        }
    }

    /// A census that could not be taken.
    pub(crate) fn no_census(
        &mut self,
        time: Timestamp,
        id: u64,
        scope: &Scope,
        why: &str,
    ) -> io::Result<()> {
        match &self.style {
            Style::Json => {
                let record = json::findings::no_census(time, id, scope, why);
                writeln!(self.out, "{record}")
            }
            Style::Text(_) => writeln!(self.out, "   census {id} cannot be taken: {why}"),
        }
    }

    pub(crate) fn lost(&mut self, time: Timestamp, count: u64) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::lost(time, count)),
            Style::Text(_) => writeln!(
                self.out,
                "-- {count} failures were counted but not described: the ring buffer was full"
            ),
        }
    }

    /// Of a capture that is shown; as JSON it would be a line like any other.
    pub(crate) fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        match &self.style {
            Style::Json => Ok(()),
            Style::Text(style) => self.out.write_all(style.gap(gap).as_bytes()),
        }
    }

    pub(crate) fn totals(&mut self, totals: &Totals) -> io::Result<()> {
        match &self.style {
            Style::Json => writeln!(self.out, "{}", json::totals(totals))?,
            Style::Text(_) => self.out.write_all(text::totals(totals).as_bytes())?,
        }
        self.flush()
    }

    pub(crate) fn end(&mut self, end: &End) -> io::Result<()> {
        if matches!(self.style, Style::Json) {
            writeln!(self.out, "{}", json::end(end))?;
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

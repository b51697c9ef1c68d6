//! The only place that prints. Data goes to standard output and into a capture,
//! everything else to standard error.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
pub(crate) mod json;
pub(crate) mod print;
#[cfg(test)]
pub(crate) mod replayed;
pub(crate) mod sanitize;
mod text;
pub(crate) mod words;

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use crate::{
    capture::write::{Options, Reserved, Writer},
    cli::Format,
    metrics::{self, Metrics, Question},
    record::{Record, Totals},
    startup::Startup,
};

/// Where records go: to who watches, into a capture, or both.
pub(crate) struct Output {
    /// Standard output; `None`: nobody watches.
    screen: Option<Screen>,
    /// Where the capture will be.
    planned: Option<Options>,
    reserved: Option<Reserved>,
    capture: Option<Writer>,
    /// Where metrics will be.
    address: Option<SocketAddr>,
    bound: Option<metrics::Reserved>,
    metrics: Option<Metrics>,
    /// A record as JSON; its memory is used again for the next.
    line: Vec<u8>,
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
            reserved: None,
            capture: None,
            address: None,
            bound: None,
            metrics: None,
            line: Vec::new(),
        }
    }

    /// The same, and metrics at this address.
    pub(crate) fn with_metrics(mut self, address: Option<SocketAddr>) -> Self {
        self.address = address;
        self
    }

    /// Whether records are written as JSON anywhere.
    pub(crate) fn has_json(&self) -> bool {
        let is_json = |screen: &Screen| matches!(screen.style, Style::Json);
        self.planned.is_some() || self.screen.as_ref().is_some_and(is_json)
    }

    /// Makes sure that the capture can be begun and metrics can be served; nothing
    /// is written or answered yet.
    ///
    /// # Errors
    /// One cannot.
    pub(crate) fn reserve(&mut self) -> anyhow::Result<()> {
        self.bound = self.address.map(metrics::Reserved::new).transpose()?;
        self.reserved = self.planned.as_ref().map(Reserved::new).transpose()?;
        Ok(())
    }

    /// The file that the capture will be, if it is one.
    pub(crate) fn written(&self) -> Option<&Path> {
        let planned = self.planned.as_ref()?;
        (!planned.is_stdout()).then_some(planned.path.as_path())
    }

    /// Begins the capture and the metrics, too.
    ///
    /// # Errors
    /// The capture or the metrics cannot be begun, or standard output cannot be written, as for
    /// every method here.
    pub(crate) fn startup(&mut self, startup: &Startup, verbose: bool) -> anyhow::Result<()> {
        // Before anything is said: if it cannot be begun, that is all there is to say.
        if let Some(reserved) = self.reserved.take() {
            let line = format!("{}\n", json::startup(startup));
            self.capture = Some(Writer::start(reserved, &line)?);
        }
        if let Some(bound) = self.bound.take() {
            self.metrics = Some(Metrics::start(bound, startup)?);
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

    /// Writes one record to all who want it, as JSON or as text; each is made only
    /// if needed, and once. Not for `startup`.
    ///
    /// # Errors
    /// Nobody reads on, or standard output cannot be written.
    pub(crate) fn record(&mut self, record: Record<'_>) -> io::Result<()> {
        if let Some(metrics) = &mut self.metrics {
            metrics.record(record);
        }
        if self.has_json() {
            self.line.clear();
            json::write(record, &mut self.line);
            self.line.push(b'\n');
        }
        if let Some(capture) = &mut self.capture {
            capture.write(&self.line)?;
        }
        match &mut self.screen {
            None => Ok(()),
            Some(Screen { out, style }) => match style {
                Style::Json => out.write_all(&self.line),
                Style::Text(style) => out.write_all(style.record(record).as_bytes()),
            },
        }
    }

    /// What a scrape asks; waits for ever if none comes. Safe to cancel.
    pub(crate) async fn question(&mut self) -> Question {
        match &mut self.metrics {
            Some(metrics) => metrics.question().await,
            None => std::future::pending().await,
        }
    }

    /// Answers it.
    pub(crate) fn answer(&self, question: Question, totals: Totals) {
        if let Some(metrics) = &self.metrics {
            metrics.answer(question, totals);
        }
    }

    /// Ends the capture with what was written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
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

//! The only place that prints. Data goes to standard output and into a capture,
//! everything else to standard error.

pub(crate) mod aside;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
pub(crate) mod json;
pub(crate) mod json_lines;
pub(crate) mod print;
#[cfg(test)]
pub(crate) mod replayed;
pub(crate) mod sanitize;
mod text;
pub(crate) mod words;

use std::{
    future::pending,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use json_lines::JsonLines;

#[cfg(feature = "otlp")]
use crate::otlp::{self, Endpoint, Otlp};
use crate::{
    capture::write::{Options, Reserved, Writer},
    cli::Format,
    metrics::{self, Metrics, Question},
    record::{Record, Totals},
    startup::Startup,
    view::{self, Scene, View},
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
    /// Where log records and metrics will be sent to.
    #[cfg(feature = "otlp")]
    receiver: Option<otlp::Planned>,
    #[cfg(feature = "otlp")]
    otlp: Option<Otlp>,
    /// A record as JSON; its memory is used again for the next.
    line: Vec<u8>,
}

enum Screen {
    Text(Lines, text::Style),
    Json(JsonLines),
    /// The whole terminal.
    View(Box<View>),
    /// Where that was: only the end is told there.
    Below(Lines),
}

type Lines = io::BufWriter<io::Stdout>;

fn lines() -> Lines {
    io::BufWriter::new(io::stdout())
}

/// What someone wants while watching goes on.
pub(crate) enum Asked {
    View(view::Event),
    Scrape(Question),
}

impl Output {
    /// For this format, to wherever standard output goes; without one, to the
    /// capture alone.
    pub(crate) fn new(format: Option<Format>, capture: Option<Options>) -> Self {
        let screen = format.map(|format| match format {
            Format::Json => Screen::Json(JsonLines::new()),
            Format::Text => Screen::Text(lines(), text::Style::detect(io::stdout().is_terminal())),
        });
        Self::with(screen, capture)
    }

    /// For the whole terminal, from `startup` on.
    pub(crate) fn full_screen(scene: Scene, capture: Option<Options>) -> Self {
        let view = Box::new(View::new(scene));
        Self::with(Some(Screen::View(view)), capture)
    }

    fn with(screen: Option<Screen>, planned: Option<Options>) -> Self {
        Self {
            screen,
            planned,
            reserved: None,
            capture: None,
            address: None,
            bound: None,
            metrics: None,
            #[cfg(feature = "otlp")]
            receiver: None,
            #[cfg(feature = "otlp")]
            otlp: None,
            line: Vec::new(),
        }
    }

    /// The same, and metrics at this address.
    pub(crate) fn with_metrics(mut self, address: Option<SocketAddr>) -> Self {
        self.address = address;
        self
    }

    /// The same, and log records and metrics to this receiver.
    #[cfg(feature = "otlp")]
    pub(crate) fn with_otlp(mut self, endpoint: Option<Endpoint>) -> Self {
        self.receiver = endpoint.map(otlp::Planned::new);
        self
    }

    /// Whether records are written as JSON anywhere.
    pub(crate) fn has_json(&self) -> bool {
        self.planned.is_some() || matches!(self.screen, Some(Screen::Json(_)))
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
        self.measure(startup)?;
        match &mut self.screen {
            None | Some(Screen::Below(_)) => say(&text::startup(startup, verbose)),
            Some(Screen::Json(out)) => out.line(json::startup(startup).to_string().as_bytes())?,
            Some(Screen::Text(out, style)) => {
                say(&text::startup(startup, verbose));
                out.write_all(style.header().as_bytes())?;
            }
            Some(Screen::View(view)) => {
                view.record(Record::Startup(startup));
                view.open()?;
            }
        }
        Ok(self.flush()?)
    }

    /// Begins to count for those who want numbers.
    fn measure(&mut self, startup: &Startup) -> anyhow::Result<()> {
        let bound = self.bound.take();
        #[cfg(feature = "otlp")]
        if let Some(receiver) = self.receiver.take() {
            let counts = Metrics::start(bound, startup, Some(receiver.besides()))?;
            self.otlp = Some(Otlp::start(receiver, startup, &counts)?);
            self.metrics = Some(counts);
            return Ok(());
        }
        if bound.is_some() {
            self.metrics = Some(Metrics::start(bound, startup, None)?);
        }
        Ok(())
    }

    /// A record as it was written once, to who watches JSON.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.screen {
            Some(Screen::Json(out)) => out.line(line),
            _ => Ok(()),
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
        #[cfg(feature = "otlp")]
        if let Some(otlp) = &mut self.otlp {
            otlp.record(record);
        }
        if self.has_json() {
            self.line.clear();
            json::write(record, &mut self.line);
        }
        if let Some(capture) = &mut self.capture {
            self.line.push(b'\n');
            capture.write(&self.line)?;
            self.line.pop();
        }
        if let Record::Verified(of) = record
            && matches!(
                self.screen,
                None | Some(Screen::Text(..) | Screen::Below(_))
            )
        {
            say(&text::verified(of));
        }
        match &mut self.screen {
            None => Ok(()),
            Some(Screen::Json(out)) => out.line(&self.line),
            Some(Screen::Text(out, style)) => out.write_all(style.record(record).as_bytes()),
            Some(Screen::View(view)) => {
                view.record(record);
                Ok(())
            }
            Some(Screen::Below(out)) => match record {
                Record::Totals(of) => out.write_all(text::totals(of).as_bytes()),
                _ => Ok(()),
            },
        }
    }

    /// The full-screen view, if there is one.
    pub(crate) fn view(&mut self) -> Option<&mut View> {
        match &mut self.screen {
            Some(Screen::View(view)) => Some(view),
            _ => None,
        }
    }

    /// Waits for what happens in the view; for ever if there is none. Safe to cancel.
    pub(crate) async fn view_event(&mut self) -> view::Event {
        event_of(&mut self.screen).await
    }

    /// Ends the view, if there is one: what is told from now on comes below it.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        if let Some(Screen::View(view)) = &mut self.screen {
            view.close()?;
            self.screen = Some(Screen::Below(lines()));
        }
        Ok(())
    }

    /// What the view or a scrape asks for; waits for ever if neither is there. Safe
    /// to cancel.
    pub(crate) async fn asked(&mut self) -> Asked {
        let metrics = &mut self.metrics;
        let scrape = async {
            match metrics {
                Some(metrics) => metrics.question().await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = event_of(&mut self.screen) => Asked::View(event),
            question = scrape => Asked::Scrape(question),
        }
    }

    /// Answers a scrape.
    pub(crate) fn answer(&self, question: Question, totals: Totals) {
        if let Some(metrics) = &self.metrics {
            metrics.answer(question, totals);
        }
    }

    /// Ends the capture with what was written, and sends what is still to be sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.capture.as_mut().map_or(Ok(()), Writer::finish)?;
        #[cfg(feature = "otlp")]
        if let (Some(otlp), Some(metrics)) = (&mut self.otlp, &mut self.metrics) {
            metrics.close();
            otlp.finish(Some(metrics));
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(capture) = &self.capture {
            capture.check()?;
        }
        match &mut self.screen {
            Some(Screen::Text(out, _) | Screen::Below(out)) => out.flush(),
            Some(Screen::Json(out)) => out.flush(),
            None | Some(Screen::View(_)) => Ok(()),
        }
    }
}

/// A record as lines without colours, in UTC: for those who are elsewhere.
#[cfg(feature = "otlp")]
pub(crate) fn plain(record: Record<'_>) -> String {
    text::Style::plain().record(record)
}

/// Whether a terminal gets colours.
pub(crate) fn has_colour() -> bool {
    text::has_colour(io::stdout().is_terminal())
}

/// What happens in the view; nothing ever does if there is none.
async fn event_of(screen: &mut Option<Screen>) -> view::Event {
    match screen {
        Some(Screen::View(view)) => view.wait().await,
        _ => pending().await,
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
    if !aside::keep(line) {
        eprintln!("{line}");
    }
}

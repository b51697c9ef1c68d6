//! `tracer report`: the story that captures tell.
//!
//! [`record`] takes from a record what can be trusted to be bounded,
//! [`analyse`] makes findings of records (pure, streaming), [`story`] puts them
//! into words, [`text`] and [`html`] lay these out, [`json`] tells the facts.

mod ahead;
mod analyse;
mod clock;
mod crowd;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod html;
mod json;
mod line;
mod record;
mod runs;
mod story;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod unseen;
mod words;

use jiff::tz::TimeZone;

use crate::{
    capture::files::Captures,
    cli::{self, ReportFormat},
    exit::Failed,
    output::print,
    when::When,
};
use analyse::{Analysis, Filter};
use line::{Line, Skipped};

/// Reads the files and tells; returns the exit code.
///
/// # Errors
/// A file cannot be read. A closed standard output is no error: nobody reads
/// on.
pub(crate) fn run(arguments: &cli::Report) -> Result<u8, Failed> {
    let captures = Captures::open(&arguments.files)?;
    let moment = |when: Option<When>| when.map_or(Ok(None), |when| captures.moment(when));
    let since = moment(arguments.since)?;
    let until = match (since, arguments.until) {
        (Some(since), Some(until)) => until.after(since),
        (_, until) => moment(until)?,
    };
    let mut analysis = Analysis::new(Filter {
        since,
        until,
        only: arguments.filter.clone(),
    });
    let needs_all = !arguments.filter.is_off();
    let mut skipped = Skipped::default();
    let parse = move |line: &[u8]| match needs_all {
        true => line::whole(line),
        false => line::parse(line, &mut skipped),
    };
    let captures = ahead::each(captures, parse, |line| match line {
        Line::Event(event) => analysis.feed_event(&event),
        Line::Other(record) => analysis.feed(&record),
    })?;
    let top = arguments.top.get();
    let zone = TimeZone::system();
    let told = match arguments.format {
        ReportFormat::Text => {
            let (width, colour) = print::paper();
            let style = text::Style {
                width,
                colour,
                zone,
                top,
            };
            text::report(&analysis, captures.notes(), &style)
        }
        ReportFormat::Html => html::report(&analysis, captures.notes(), &zone, top),
        ReportFormat::Json => json::report(&analysis, captures.damage(), top).to_string(),
    };
    match arguments.format {
        ReportFormat::Json => print::json(&told),
        ReportFormat::Text | ReportFormat::Html => print::whole(&told),
    }
    .map_err(anyhow::Error::new)?;
    Ok(0)
}

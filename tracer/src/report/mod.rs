//! `tracer report`: the story that captures tell.
//!
//! [`record`] takes from a record what can be trusted to be bounded,
//! [`analyse`] makes findings of records (pure, streaming), [`text`] and
//! [`json`] tell them.

mod analyse;
mod crowd;
mod json;
mod record;
mod runs;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod unseen;
mod when;

use std::{fs::File, io};

use anyhow::Context;
use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::{
    capture::read::{Damage, Reader},
    cli::{self, ReportFormat},
    exit::Failed,
    output::print,
};
use analyse::{Analysis, Filter};

/// Parses a moment of the command line.
pub(crate) fn when(text: &str) -> Result<Timestamp, String> {
    when::parse(text, &Zoned::now())
}

/// Reads the files and tells; returns the exit code.
///
/// # Errors
/// A file cannot be read. A closed standard output is no error: nobody reads
/// on.
pub(crate) fn run(arguments: &cli::Report) -> Result<u8, Failed> {
    let mut analysis = Analysis::new(Filter {
        since: arguments.since,
        until: arguments.until,
        pids: arguments.pids.clone(),
        comms: arguments.comms.clone(),
        kinds: arguments.kinds.clone(),
    });
    let mut damage = Damage::default();
    for path in &arguments.files {
        let cannot = || format!("{} cannot be read", path.display());
        let mut reader = Reader::new(File::open(path).with_context(cannot)?);
        while let Some(line) = reader.next_line().with_context(cannot)? {
            if let Some(record) = damage.parse(line) {
                analysis.feed(&record);
            }
        }
        if !reader.is_capture() && *reader.damage() != Damage::default() {
            let why = anyhow::anyhow!("{} is no capture", path.display());
            return Err(Failed::Running(why));
        }
        let bad_lines = damage.bad_lines;
        damage = *reader.damage();
        damage.bad_lines += bad_lines;
    }
    let (width, colour) = print::paper();
    let top = arguments.top.get();
    let told = match arguments.format {
        ReportFormat::Text => {
            let zone = TimeZone::system();
            let style = text::Style {
                width,
                colour,
                zone,
                top,
            };
            text::report(&analysis, &[], &style)
        }
        ReportFormat::Json => format!("{}\n", json::report(&analysis, &damage, top)),
    };
    match print::report(&told) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).into())
        }
        _ => Ok(0),
    }
}

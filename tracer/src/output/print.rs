//! Snapshots, printed at once.

use std::io::{self, IsTerminal, Write};

use super::{json, json_lines::JsonLines, text};
use crate::{
    attribute::namespaces::Netstat,
    cli::Format,
    explain::finding::BoundUnused,
    snapshot::{Taken, listeners::Listener, places::Place, ports::Table},
};

/// Prints what `tracer ports` found.
///
/// # Errors
/// Standard output cannot be written, here and below.
pub(crate) fn ports(
    format: Format,
    taken: Taken,
    tables: &[Table],
    bound_unused: &BoundUnused,
) -> io::Result<()> {
    match format {
        Format::Text => whole(&text::snapshot::ports(tables, bound_unused)),
        Format::Json => {
            let mut out = JsonLines::new();
            for table in tables {
                out.line(
                    json::snapshot::ports(taken, table, bound_unused)
                        .to_string()
                        .as_bytes(),
                )?;
            }
            out.flush()
        }
    }
}

/// Prints what `tracer listeners` found. `counters`: of each namespace with
/// listeners.
pub(crate) fn listeners(
    format: Format,
    taken: Taken,
    listeners: &[Listener],
    counters: &[(Place, Netstat)],
) -> io::Result<()> {
    match format {
        Format::Text => whole(&text::snapshot::listeners(listeners, counters)),
        Format::Json => {
            let mut out = JsonLines::new();
            for listener in listeners {
                let netns = listener.place.netns;
                let found = counters.iter().find(|(place, _)| place.netns == netns);
                let netstat = found.map(|(_, netstat)| *netstat);
                out.line(
                    json::snapshot::listener(taken, listener, netstat)
                        .to_string()
                        .as_bytes(),
                )?;
            }
            out.flush()
        }
    }
}

/// Columns of the terminal, or of a page (80) where there is none; and whether
/// colour is wanted.
pub(crate) fn paper() -> (usize, bool) {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let size = is_terminal.then(|| rustix::termios::tcgetwinsize(&stdout));
    let columns = size
        .and_then(Result::ok)
        .map(|size| usize::from(size.ws_col));
    let width = columns.filter(|columns| *columns > 0).unwrap_or(80);
    (width.clamp(60, 160), text::has_colour(is_terminal))
}

/// Prints a text that is whole, and fit for a terminal.
///
/// # Errors
/// Standard output cannot be written. If it is closed nobody reads on, which is none;
/// so below.
pub(crate) fn whole(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints JSON, a record a line.
pub(crate) fn json(lines: &str) -> io::Result<()> {
    let mut out = JsonLines::new();
    let written = lines.lines().try_for_each(|line| out.line(line.as_bytes()));
    unless_closed(written.and_then(|()| out.flush()))
}

fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

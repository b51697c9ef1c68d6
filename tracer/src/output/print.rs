//! Snapshots, printed at once.

use std::io::{self, BufWriter, Write};

use super::{json, text};
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
    let mut out = BufWriter::new(io::stdout());
    match format {
        Format::Text => out.write_all(text::snapshot::ports(tables, bound_unused).as_bytes())?,
        Format::Json => {
            for table in tables {
                writeln!(out, "{}", json::snapshot::ports(taken, table, bound_unused))?;
            }
        }
    }
    out.flush()
}

/// Prints what `tracer listeners` found. `counters`: of each namespace with
/// listeners.
pub(crate) fn listeners(
    format: Format,
    taken: Taken,
    listeners: &[Listener],
    counters: &[(Place, Netstat)],
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout());
    match format {
        Format::Text => out.write_all(text::snapshot::listeners(listeners, counters).as_bytes())?,
        Format::Json => {
            for listener in listeners {
                let netns = listener.place.netns;
                let found = counters.iter().find(|(place, _)| place.netns == netns);
                let netstat = found.map(|(_, netstat)| *netstat);
                writeln!(
                    out,
                    "{}",
                    json::snapshot::listener(taken, listener, netstat)
                )?;
            }
        }
    }
    out.flush()
}

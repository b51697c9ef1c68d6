//! `tracer export`: captures for other tools. docs/export.md describes the tables.
//!
//! [`table`] says which columns there are, [`mod@column`] what stands in them,
//! [`mod@rows`] which rows a record makes; [`csv`] and [`parquet`] write them to a
//! [`target`]. Pure but for that.

mod column;
mod csv;
mod described;
mod parquet;
mod partial;
mod rows;
mod table;
mod target;
#[cfg(test)]
mod tests;

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Result, bail};
use serde_json::Value;

use self::{csv::Csv, parquet::Parquet};
use crate::{
    capture::{files::Captures, read::is_object},
    cli::{Export, ExportFormat},
    exit::{Failed, is_broken_pipe},
    output::{json_lines::shown, say},
};
use column::{Cell, Column};
use rows::{Rows, Told};
pub(crate) use table::Table;
use target::Target;

/// What of JSON Lines is held before it is written.
const BUFFER: usize = 64 << 10;

/// Takes the rows of a table.
trait Sheet {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<()>;

    /// Writes what is left.
    fn finish(self) -> Result<()>;
}

/// Writes the records of files in another format; returns the exit code.
///
/// # Errors
/// A file cannot be read, is no capture, or the target cannot be written. Damage
/// in a capture is no error, and a closed standard output is none: nobody reads
/// on.
pub(crate) fn run(arguments: &Export) -> Result<u8, Failed> {
    let path = arguments.output();
    let exported = export(arguments, path);
    match exported {
        Err(error) if path.is_none() && is_broken_pipe(&error) => Ok(0),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(0),
    }
}

fn export(arguments: &Export, path: Option<&Path>) -> Result<()> {
    let mut captures = Captures::open(&arguments.files)?;
    let is_terminal = Target::is_terminal(path);
    if is_terminal && arguments.format == ExportFormat::Parquet {
        bail!("Parquet is not for a terminal: -o FILE");
    }
    if let Some(path) = path.filter(|path| captures.reads(path)) {
        bail!("{} is to be read, too", target::name(path));
    }
    // What cannot be read at all must not cost a file that is there.
    let first = captures.next_record()?;
    let table = arguments.table();
    let mut target = Target::open(path, arguments.overwrite)?;
    let mut told = Told::default();
    let written = match arguments.format {
        ExportFormat::Jsonl => lines(&mut captures, first.is_some(), &mut target, is_terminal),
        ExportFormat::Csv => rows(
            &mut captures,
            first,
            table,
            |columns| Csv::new(&mut target, columns, is_terminal),
            &mut told,
        ),
        ExportFormat::Parquet => rows(
            &mut captures,
            first,
            table,
            |columns| Parquet::new(&mut target, table, columns),
            &mut told,
        ),
    };
    let ended = target.finish(written);
    if !ended.as_ref().is_err_and(is_broken_pipe) {
        for note in captures.notes().iter().chain(&told.notes()) {
            say(&format!("tracer: {note}"));
        }
    }
    ended
}

/// All records as they are; on a terminal what it would act on is escaped, as
/// JSON can.
fn lines(
    captures: &mut Captures,
    has_first: bool,
    target: &mut Target,
    is_terminal: bool,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, target);
    let mut has_next = has_first;
    while has_next {
        out.write_all(&shown(captures.line(), is_terminal))?;
        out.write_all(b"\n")?;
        has_next = captures.next(is_object)?.is_some();
    }
    Ok(out.flush()?)
}

/// The rows of a table.
fn rows<S: Sheet>(
    captures: &mut Captures,
    first: Option<Value>,
    table: Table,
    sheet: impl FnOnce(&[Column]) -> Result<S>,
    told: &mut Told,
) -> Result<()> {
    let columns = table.columns();
    let mut sheet = sheet(&columns)?;
    let mut rows = Rows::new(table);
    let mut wrong = 0;
    let mut next = first;
    while let Some(record) = next {
        rows.make(record, captures.file(), |row| {
            let cells: Vec<_> = columns.iter().map(|column| column.cell(row)).collect();
            let of_this = cells.iter().filter(|cell| **cell == Cell::Wrong).count();
            wrong += u64::try_from(of_this).unwrap_or(u64::MAX);
            sheet.row(&cells)
        })?;
        next = captures.next_record()?;
    }
    *told = Told { wrong, ..rows.told };
    sheet.finish()
}

//! How does a row become a line of CSV (RFC 4180)?

use std::io::Write;

use anyhow::Result;
use csv::{Terminator, Writer, WriterBuilder};
use jiff::Timestamp;

use super::{
    Sheet,
    column::{Cell, Column},
};
use crate::output::sanitize::printable;

/// What is held before it is written.
const BUFFER: usize = 64 << 10;

/// A table as CSV.
pub(super) struct Csv<W: Write> {
    writer: Writer<W>,
    /// What processes chose must not act on a terminal.
    is_terminal: bool,
    /// One cell at a time.
    text: Vec<u8>,
}

impl<W: Write> Csv<W> {
    /// Begins with the names of the columns.
    pub(super) fn new(out: W, columns: &[Column], is_terminal: bool) -> Result<Self> {
        let mut writer = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .buffer_capacity(BUFFER)
            .from_writer(out);
        writer.write_record(columns.iter().map(|column| column.name))?;
        Ok(Self {
            writer,
            is_terminal,
            text: Vec::new(),
        })
    }
}

impl<W: Write> Sheet for Csv<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<()> {
        for cell in cells {
            self.text.clear();
            match cell {
                Cell::Null | Cell::Wrong => {}
                Cell::Time(time) => {
                    write!(self.text, "{:.6}", Timestamp::from_microsecond(*time)?)?;
                }
                Cell::Text(text) if self.is_terminal => {
                    self.text
                        .extend_from_slice(printable(text.as_bytes()).as_bytes());
                }
                Cell::Text(text) => self.text.extend_from_slice(text.as_bytes()),
                Cell::Bool(is) => write!(self.text, "{is}")?,
                Cell::Unsigned(number) => write!(self.text, "{number}")?,
                Cell::Signed(number) => write!(self.text, "{number}")?,
                Cell::Float(number) => write!(self.text, "{number}")?,
            }
            self.writer.write_field(&self.text)?;
        }
        self.writer.write_record(None::<&[u8]>)?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::table::Table;

    fn told(cells: &[Cell<'_>], is_terminal: bool) -> Result<String> {
        let columns = Table::Events.columns();
        let mut bytes = Vec::new();
        let mut csv = Csv::new(&mut bytes, &columns[..cells.len()], is_terminal)?;
        csv.row(cells)?;
        csv.finish()?;
        Ok(String::from_utf8(bytes)?)
    }

    #[test]
    fn cells_as_rfc_4180_has_them() -> Result<()> {
        let cells = [
            Cell::Time(1_000_002),
            Cell::Text("a,\"b\"\r\nc\u{0}".into()),
            Cell::Null,
            Cell::Text("=HYPERLINK(1)".into()),
            Cell::Wrong,
            Cell::Bool(true),
            Cell::Unsigned(u64::MAX),
            Cell::Signed(-1),
            Cell::Float(0.5),
        ];
        let expected = "time,host,boot_id,run,netns,kind,cause,errno,count\r\n\
             1970-01-01T00:00:01.000002Z,\"a,\"\"b\"\"\r\nc\u{0}\",,=HYPERLINK(1),,true,18446744073709551615,-1,0.5\r\n";
        assert_eq!(told(&cells, false)?, expected);
        Ok(())
    }

    #[test]
    fn no_terminal_acts_on_it() -> Result<()> {
        let told = told(
            &[Cell::Null, Cell::Text("a\u{1b}[2J\r\n\u{9b}".into())],
            true,
        )?;
        assert_eq!(told, "time,host\r\n,a\\x1b[2J\\x0d\\x0a\\u{9b}\r\n");
        Ok(())
    }
}

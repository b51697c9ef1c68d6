//! How do rows become a Parquet file?
//!
//! Its row groups hold one column after the other, so rows wait until there are
//! enough of them for a group, or enough bytes: memory is bounded.

use std::{fmt::Write as _, io::Write, mem, sync::Arc};

use anyhow::{Context, Result};
use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};

use super::{
    Sheet,
    column::{Cell, Column, Holds},
    table::Table,
};

/// Most rows of a group: as many as DuckDB makes it.
const ROWS: usize = 122_880;
/// Most bytes that wait, but for the last row's.
const BYTES: usize = 24 << 20;

/// A table as a Parquet file.
pub(super) struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    /// What waits, column by column.
    waiting: Vec<Waiting>,
    rows: usize,
    bytes: usize,
}

/// The cells of a column that wait.
#[derive(Debug)]
struct Waiting {
    /// 1: there is a value; 0: null.
    levels: Vec<i16>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f64>),
    /// All texts in one, and where each ends.
    Text(Vec<u8>, Vec<usize>),
}

impl<W: Write + Send> Parquet<W> {
    /// Begins a file with the columns of `table`.
    pub(super) fn new(out: W, table: Table, columns: &[Column]) -> Result<Self> {
        let mut message = format!("message {} {{\n", table.name());
        for column in columns {
            writeln!(message, "optional {};", declared(column))?;
        }
        message.push('}');
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("tracer ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let schema = Arc::new(parse_message_type(&message)?);
        Ok(Self {
            writer: SerializedFileWriter::new(out, schema, Arc::new(properties))?,
            waiting: columns.iter().map(Waiting::new).collect(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Writes what waits as a row group.
    fn flush(&mut self) -> Result<()> {
        if mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        self.bytes = 0;
        let mut group = self.writer.next_row_group()?;
        for waiting in &mut self.waiting {
            let mut column = group.next_column()?.context("a column is missing")?;
            waiting.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl<W: Write + Send> Sheet for Parquet<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<()> {
        for (waiting, cell) in self.waiting.iter_mut().zip(cells) {
            self.bytes += waiting.push(cell);
        }
        self.rows += 1;
        if self.rows >= ROWS || self.bytes >= BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.writer.finish()?;
        Ok(self.writer.inner_mut().flush()?)
    }
}

/// A column in the language of Parquet's schemas.
fn declared(column: &Column) -> String {
    let (physical, logical) = match column.holds {
        Holds::Time => ("int64", "(TIMESTAMP(MICROS,true))"),
        Holds::Word | Holds::Sentence | Holds::Text | Holds::Json | Holds::Ids | Holds::Address => {
            ("binary", "(STRING)")
        }
        Holds::Bool => ("boolean", ""),
        Holds::Port | Holds::U16 => ("int32", "(INTEGER(16,false))"),
        Holds::Length | Holds::U32 => ("int32", "(INTEGER(32,false))"),
        Holds::U64 => ("int64", "(INTEGER(64,false))"),
        Holds::I32 => ("int32", "(INTEGER(32,true))"),
        Holds::I64 => ("int64", "(INTEGER(64,true))"),
        Holds::F64 => ("double", ""),
    };
    format!("{physical} {} {logical}", column.name)
}

impl Waiting {
    fn new(column: &Column) -> Self {
        let values = match column.holds {
            Holds::Time | Holds::U64 | Holds::I64 => Values::Int64(Vec::new()),
            Holds::Word
            | Holds::Sentence
            | Holds::Text
            | Holds::Json
            | Holds::Ids
            | Holds::Address => Values::Text(Vec::new(), Vec::new()),
            Holds::Bool => Values::Bool(Vec::new()),
            Holds::Port | Holds::Length | Holds::U16 | Holds::U32 | Holds::I32 => {
                Values::Int32(Vec::new())
            }
            Holds::F64 => Values::Float(Vec::new()),
        };
        Self {
            levels: Vec::new(),
            values,
        }
    }

    /// Takes a cell; returns how many bytes that takes.
    fn push(&mut self, cell: &Cell<'_>) -> usize {
        let pushed = self.values.push(cell);
        self.levels.push(i16::from(pushed.is_some()));
        size_of::<i16>() + pushed.unwrap_or(0)
    }

    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let levels = mem::take(&mut self.levels);
        match &mut self.values {
            Values::Bool(values) => batch::<BoolType>(column, values, &levels)?,
            Values::Int32(values) => batch::<Int32Type>(column, values, &levels)?,
            Values::Int64(values) => batch::<Int64Type>(column, values, &levels)?,
            Values::Float(values) => batch::<DoubleType>(column, values, &levels)?,
            Values::Text(text, ends) => {
                let text = bytes::Bytes::from(mem::take(text));
                let mut begin = 0;
                let mut values = Vec::with_capacity(ends.len());
                for end in ends.drain(..) {
                    values.push(ByteArray::from(text.slice(begin..end)));
                    begin = end;
                }
                batch::<ByteArrayType>(column, &mut values, &levels)?;
            }
        }
        self.levels = levels;
        self.levels.clear();
        Ok(())
    }
}

/// Writes the values of a column and forgets them.
fn batch<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    levels: &[i16],
) -> Result<()> {
    column
        .typed::<T>()
        .write_batch(values, Some(levels), None)?;
    values.clear();
    Ok(())
}

impl Values {
    /// The bytes of what was taken; `None`: there is no value.
    fn push(&mut self, cell: &Cell<'_>) -> Option<usize> {
        match (self, cell) {
            (Self::Bool(values), Cell::Bool(is)) => {
                values.push(*is);
                Some(size_of::<bool>())
            }
            (Self::Int32(values), Cell::Unsigned(number)) => {
                // Parquet keeps the bits of unsigned numbers in signed ones.
                values.push(u32::try_from(*number).ok()?.cast_signed());
                Some(size_of::<i32>())
            }
            (Self::Int32(values), Cell::Signed(number)) => {
                values.push(i32::try_from(*number).ok()?);
                Some(size_of::<i32>())
            }
            (Self::Int64(values), Cell::Time(number) | Cell::Signed(number)) => {
                values.push(*number);
                Some(size_of::<i64>())
            }
            (Self::Int64(values), Cell::Unsigned(number)) => {
                values.push(number.cast_signed());
                Some(size_of::<i64>())
            }
            (Self::Float(values), Cell::Float(number)) => {
                values.push(*number);
                Some(size_of::<f64>())
            }
            (Self::Text(all, ends), Cell::Text(text)) => {
                all.extend_from_slice(text.as_bytes());
                ends.push(all.len());
                Some(text.len() + size_of::<usize>())
            }
            _ => None,
        }
    }
}

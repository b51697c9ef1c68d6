//! Which rows does a record make?

use serde_json::Value;

use super::{column::Row, described::Described, table::Table};

/// Most rows of one record: more than any of tracer's makes, and what a hostile
/// one can make is bounded.
const MOST: usize = 4096;

/// What was left out of the table, or does not belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Records of types that nobody knows here, or of a later schema.
    pub(super) unknown: u64,
    /// Cells in whose place something else stood.
    pub(super) wrong: u64,
    /// Rows beyond [`MOST`].
    pub(super) rows: u64,
    /// Records that a capture lacks, as its gaps say.
    pub(super) gaps: u64,
    /// Failures that were counted but not described.
    pub(super) lost: u64,
}

impl Told {
    /// The same as sentences.
    pub(super) fn notes(&self) -> Vec<String> {
        let all = [
            (
                self.unknown,
                "records of kinds that this version does not know, left out",
            ),
            (
                self.wrong,
                "fields that hold something else than they should, left empty",
            ),
            (
                self.rows,
                "rows beyond the first 4096 of a record, left out",
            ),
            (self.lost, "failures that were counted but not described"),
            (self.gaps, "records that the capture lacks, as its gaps say"),
        ];
        let told = all.iter().filter(|(count, _)| *count > 0);
        told.map(|(count, what)| format!("{what}: {count}"))
            .collect()
    }
}

/// Makes rows of records, one after the other.
pub(super) struct Rows {
    table: Table,
    /// The `startup` record of the run that the present file is of.
    run: Value,
    file: u64,
    described: Described,
    pub(super) told: Told,
}

impl Rows {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            run: Value::Null,
            file: 0,
            described: Described::default(),
            told: Told::default(),
        }
    }

    /// Hands the rows of a record to `write`. `file`: the number of the file that it is in.
    ///
    /// # Errors
    /// That of `write`.
    pub(super) fn make<E>(
        &mut self,
        record: Value,
        file: u64,
        mut write: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if record["v"].as_u64().is_some_and(|version| version != 1) {
            self.told.unknown += 1;
            return Ok(());
        }
        let record_type = record["type"].as_str().unwrap_or_default();
        if file != self.file {
            self.file = file;
            // A file without its startup record is of nobody knows which run.
            self.run = Value::Null;
            self.described.begin(&Value::Null, file);
        }
        match record_type {
            "startup" => {
                self.described.begin(&record, file);
                self.run = record;
                return Ok(());
            }
            "event" if self.table == Table::Totals => self.described.count(&record),
            "gap" => add(&mut self.told.gaps, &record["records"]),
            "lost" => add(&mut self.told.lost, &record["count"]),
            "event" | "census" | "queue" | "totals" | "verified" | "end" => {}
            _ => self.told.unknown += 1,
        }
        if record_type != self.table.of() {
            return Ok(());
        }
        match self.table {
            Table::Events | Table::Queues => write(&self.row(&record, [&Value::Null; 2])),
            Table::Censuses => self.parts(&record, "parts", &mut write),
            Table::Totals => self.parts(&record, "counts", &mut write),
        }
    }

    /// A row for each entry of a list, and for each holder of that; one at least.
    fn parts<E>(
        &mut self,
        record: &Value,
        list: &str,
        write: &mut impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = MOST;
        let mut one = |rows: &mut Self, part: &Value, inner: &Value| {
            if left == 0 {
                rows.told.rows += 1;
                return Ok(());
            }
            left -= 1;
            write(&rows.row(record, [part, inner]))
        };
        let parts = entries(&record[list]);
        if parts.is_empty() {
            return one(self, &Value::Null, &Value::Null);
        }
        for part in parts {
            if self.table == Table::Totals {
                let inner = self.described.beside(part);
                one(self, part, &inner)?;
                continue;
            }
            let holders = entries(&part["holders"]);
            if holders.is_empty() {
                one(self, part, &Value::Null)?;
            }
            for holder in holders {
                one(self, part, holder)?;
            }
        }
        Ok(())
    }

    fn row<'a>(&'a self, record: &'a Value, [part, inner]: [&'a Value; 2]) -> Row<'a> {
        Row {
            run: &self.run,
            record,
            part,
            inner,
        }
    }
}

fn entries(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn add(sum: &mut u64, count: &Value) {
    *sum = sum.saturating_add(count.as_u64().unwrap_or(0));
}

//! A table in Markdown.

use std::fmt;

/// Rows of as many cells as the first has.
#[derive(Debug)]
pub(super) struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&str; N]) -> Self {
        // All columns but the first hold numbers.
        let line = |column| if column == 0 { "---" } else { "---:" }.to_owned();
        Self(vec![head.map(str::to_owned), std::array::from_fn(line)])
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.0.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cells) in self.0.iter().enumerate() {
            let end = if index + 1 == self.0.len() { "" } else { "\n" };
            write!(f, "| {} |{end}", cells.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let mut table = Table::new(["", "s"]);
        table.row(["jq".to_owned(), "1.0".to_owned()]);
        assert_eq!(table.to_string(), "|  | s |\n| --- | ---: |\n| jq | 1.0 |");
    }
}

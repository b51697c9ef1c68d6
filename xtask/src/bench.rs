//! `xtask bench`: what tracer costs, beside the same work done in another way in
//! the same run.

mod capture;
mod machine;
mod measure;
mod page;
mod table;

use crate::place::Place;
use crate::say;
use anyhow::{Context as _, Result, bail};

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// How many events tracer gets; the others get a tenth.
    events: u64,
    /// Write the tables into the page.
    write: bool,
}

impl Choice {
    /// Reads the words after `xtask bench`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut choice = Self {
            events: 10_000_000,
            write: false,
        };
        let ["capture", words @ ..] = words else {
            bail!("`xtask bench` measures `capture`");
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => choice.write = true,
                "--events" => {
                    let number = words.next().context("--events needs a number")?;
                    choice.events = number
                        .replace('_', "")
                        .parse()
                        .with_context(|| format!("`{number}` is no number of events"))?;
                }
                other => bail!("`{other}` is not a flag of `xtask bench capture`"),
            }
        }
        // Less says nothing, and more takes longer than anybody waits.
        if !(100_000..=100_000_000).contains(&choice.events) {
            bail!("--events takes 100000 to 100000000");
        }
        Ok(choice)
    }
}

/// Measures, and tells.
pub(crate) fn run(place: &Place, choice: &Choice) -> Result<()> {
    let told = capture::measure(place, choice.events)?;
    say::result(&told);
    if choice.write {
        page::write(place, "capture", &told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() -> Result<()> {
        let choice = Choice::parse(&["capture", "--events", "1_000_000", "--write"])?;
        assert_eq!((choice.events, choice.write), (1_000_000, true));
        for wrong in [
            &[][..],
            &["everything"],
            &["capture", "--events"],
            &["capture", "--events", "7"],
            &["capture", "--fast"],
        ] {
            assert!(Choice::parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }
}

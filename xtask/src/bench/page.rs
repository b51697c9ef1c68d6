//! docs/benchmarks.md: what stands between two marks is written by this command,
//! the rest by hand.

use crate::place::Place;
use anyhow::{Context as _, Result};
use std::fs;

/// Replaces what stands there about `what`.
pub(super) fn write(place: &Place, what: &str, told: &str) -> Result<()> {
    let path = place.root.join("docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let page = replaced(&page, what, told)?;
    fs::write(&path, page).with_context(|| path.display().to_string())
}

fn replaced(page: &str, what: &str, told: &str) -> Result<String> {
    let begin = format!("<!-- written by `cargo xtask bench {what} --write` -->\n");
    let no_place = || format!("docs/benchmarks.md has no place for {what}");
    let (before, rest) = page.split_once(&begin).with_context(no_place)?;
    let (_, after) = rest.split_once("<!-- end -->\n").with_context(no_place)?;
    Ok(format!("{before}{begin}{told}\n<!-- end -->\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_replaced() -> Result<()> {
        let page = "a\n<!-- written by `cargo xtask bench x --write` -->\nold\n<!-- end -->\nb\n";
        let new = page.replace("old", "new");
        assert_eq!(replaced(page, "x", "new")?, new);
        assert!(replaced(page, "y", "new").is_err());
        Ok(())
    }
}

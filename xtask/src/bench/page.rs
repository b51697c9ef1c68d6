//! Pages of docs/ in which what stands between two marks is written by a command, the
//! rest by hand.

use crate::place::Place;
use anyhow::{Context as _, Result};
use std::fs;

/// Replaces what `cargo xtask COMMAND --write` wrote into `page`.
pub(super) fn write(place: &Place, page: &str, command: &str, told: &str) -> Result<()> {
    let path = place.root.join("docs").join(page);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = replaced(&text, command, told).with_context(|| path.display().to_string())?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn replaced(page: &str, command: &str, told: &str) -> Result<String> {
    let begin = format!("<!-- written by `cargo xtask {command} --write` -->\n");
    let no_place = || format!("no place for what `cargo xtask {command}` says");
    let (before, rest) = page.split_once(&begin).with_context(no_place)?;
    let (_, after) = rest.split_once("<!-- end -->\n").with_context(no_place)?;
    Ok(format!("{before}{begin}{told}\n<!-- end -->\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_replaced() -> Result<()> {
        let page = "a\n<!-- written by `cargo xtask x --write` -->\nold\n<!-- end -->\nb\n";
        let new = page.replace("old", "new");
        assert_eq!(replaced(page, "x", "new")?, new);
        assert!(replaced(page, "y", "new").is_err());
        Ok(())
    }
}

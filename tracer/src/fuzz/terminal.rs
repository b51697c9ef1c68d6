//! What a terminal gets of the texts of strangers, for fuzzing.

use std::borrow::Cow;

use crate::output::{json_lines, sanitize};

/// A name, or whatever else somebody chose.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    sanitize::printable(bytes)
}

/// A sentence that came through a file.
#[must_use]
pub fn harmless(text: &str) -> String {
    sanitize::harmless(text)
}

/// A line of JSON on standard output.
#[must_use]
pub fn json_line(line: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    json_lines::shown(line, is_terminal)
}

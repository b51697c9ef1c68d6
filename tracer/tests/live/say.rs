//! What the live tests print: the only place that writes to stdout or stderr.

use std::io::Write as _;

/// One line of the protocol that `xtask` reads.
#[expect(
    clippy::print_stdout,
    reason = "the verdict lines are this program's product"
)]
pub(crate) fn line(text: &str) {
    println!("{text}");
    // A pipe buffers whole blocks; a run that the watchdog ends must not lose lines.
    let _ = std::io::stdout().flush();
}

/// A remark for the person who watches; never parsed.
#[expect(
    clippy::print_stderr,
    reason = "remarks must not mix with the verdict lines"
)]
pub(crate) fn remark(text: &str) {
    eprintln!("live: {text}");
}

/// A detail that may hold line ends, as one line.
pub(crate) fn flat(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(part);
    }
    out
}

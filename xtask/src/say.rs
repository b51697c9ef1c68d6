//! The one place of `xtask` that prints.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command line tool talks to its user; only this file does"
)]

/// Progress and remarks: to stderr.
pub(crate) fn note(text: &str) {
    eprintln!("xtask: {text}");
}

/// The one error a command ends with: to stderr.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("xtask: error: {error:#}");
}

/// Results: to stdout.
pub(crate) fn result(text: &str) {
    println!("{text}");
}

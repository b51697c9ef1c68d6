//! The one place of `xtask` that prints.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command line tool talks to its user; only this file does"
)]

use std::sync::OnceLock;
use std::time::Instant;

/// Progress and remarks, with the seconds since the first one: to stderr.
pub(crate) fn note(text: &str) {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let seconds = FIRST.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("xtask: {seconds:>4} s  {text}");
}

/// The one error a command ends with: to stderr.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("xtask: error: {error:#}");
}

/// Results: to stdout.
pub(crate) fn result(text: &str) {
    println!("{text}");
}

//! `xtask sanitize`: does the unsafe code touch memory that it should not? The unit
//! tests and the fuzz targets with AddressSanitizer, whose runtime comes with the
//! compiler.

use crate::live::Counts;
use crate::place::Place;
use crate::{fuzz, run, say, toolchain};
use anyhow::{Result, bail};
use std::process::Command;

/// The sanitizer's flag.
pub(crate) const FLAG: &str = "-Zsanitizer=address";

/// Lets a stable compiler take the flag.
pub(crate) fn permit(command: &mut Command) -> &mut Command {
    command.env("RUSTC_BOOTSTRAP", "1")
}

/// Runs everything; says whether all is well.
pub(crate) fn command(place: &Place) -> Result<bool> {
    let mut counts = unit_tests(place)?;
    counts.add(fuzz::fuzz(
        place,
        &fuzz::Choice::all(fuzz::BRIEF).sanitized(),
    )?);
    say::result(&counts.summary());
    Ok(counts.failed == 0)
}

fn unit_tests(place: &Place) -> Result<Counts> {
    say::note("the unit tests with AddressSanitizer");
    let output = run::output(
        permit(&mut toolchain::cargo())
            .args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"])
            .args(["--features", "tracer/otlp", "--target", fuzz::TRIPLE])
            .arg("--target-dir")
            .arg(place.target.join("sanitize"))
            .env("RUSTFLAGS", FLAG)
            // Not the default: a stack that is used after its function has returned.
            .env("ASAN_OPTIONS", "detect_stack_use_after_return=1")
            .env("TRACER_BTF_DIR", place.target.join("btf"))
            .current_dir(&place.root),
    )?;
    let told = String::from_utf8_lossy(&output.stdout);
    let mut counts = Counts::default();
    for more in told.lines().filter_map(Counts::parse) {
        counts.add(more);
    }
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        say::result(&format!("{told}\n{why}"));
        if counts.failed == 0 {
            bail!("the tests ended early ({})", output.status);
        }
    }
    say::result(&format!("with AddressSanitizer: {}", counts.summary()));
    Ok(counts)
}

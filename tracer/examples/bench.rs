//! Runs what `cargo xtask bench` measures: `bench WHAT FILE EVENTS RATE`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use tracer::bench::{self, Load};

fn main() -> Result<ExitCode> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [what, file, events, rate] = words.as_slice() else {
        bail!("usage: bench capture|json|rows FILE EVENTS RATE");
    };
    let number = |text: &str| text.parse().with_context(|| format!("{text} is no number"));
    let load = Load {
        events: number(events)?,
        rate: number(rate)?,
    };
    let file = Path::new(file);
    match what.as_str() {
        "capture" => bench::capture(file, load)?,
        "json" => bench::json(file, load)?,
        "rows" => bench::rows(file, load)?,
        other => bail!("{other} cannot be measured"),
    }
    Ok(ExitCode::SUCCESS)
}

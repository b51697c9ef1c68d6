//! A capture that is being written can be reported at any time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Directory, Recorder, fail_often, needs_speed};
use crate::cli::{self, Desert};
use crate::limits;
use crate::tracer;

/// What a report of files told.
struct Told {
    object: Value,
    failures: u64,
    records: u64,
}

fn report(path: &Path, files: &Path) -> Result<Told> {
    let mut command = tracer::verb(path, "report");
    let output = cli::output(command.args(["--format", "json"]).arg(files))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {stderr}", output.status);
    ensure!(stderr.is_empty(), "it said: {stderr}");
    let object: Value = serde_json::from_slice(&output.stdout)?;
    let captured = &object["captured"];
    let number = |name: &str| captured[name].as_u64().context("no number");
    let (failures, records) = (number("failures")?, number("records")?);
    // At most the frame that is being written is torn; nothing else is damaged.
    for kind in [
        "corrupt_frames",
        "refused_frames",
        "skipped_bytes",
        "bad_lines",
    ] {
        ensure!(captured["damage"][kind] == 0, "{captured}");
    }
    Ok(Told {
        object,
        failures,
        records,
    })
}

/// Reports tell more and more, and nothing that did not happen.
pub(crate) fn reported(path: &Path) -> Result<()> {
    needs_speed()?;
    let (desert, directory) = (Desert::new()?, Directory::new()?);
    let role = desert.role("reported")?;
    let file = directory.file("x.zst");
    let recorder = Recorder::start(path, &file, &file, &["--interval", "200ms"])?;
    let mut before = report(path, &file)?;
    ensure!(before.records >= 1, "the startup record is missing");
    let (mut failed, mut grown) = (0, 0);
    let end = Instant::now() + limits::event();
    while grown < 4 && Instant::now() < end {
        failed += fail_often(&role, 300)?;
        let told = report(path, &file)?;
        ensure!(
            told.failures >= before.failures && told.records >= before.records,
            "first {} of {} records, then {} of {}",
            before.failures,
            before.records,
            told.failures,
            told.records
        );
        ensure!(told.failures <= failed, "{} of {failed}", told.failures);
        ensure!(
            told.object["captured"]["runs"][0]["end"].is_null(),
            "it has not ended"
        );
        grown += usize::from(told.failures > before.failures);
        before = told;
    }
    ensure!(
        grown == 4,
        "reports do not grow: {} of {failed}",
        before.failures
    );
    recorder.stop()?;
    let told = report(path, &file)?;
    let captured = &told.object["captured"];
    let lost = captured["lost"].as_u64().unwrap_or_default();
    ensure!(told.failures + lost == failed, "{failed}: {captured}");
    ensure!(captured["damage"]["torn_bytes"] == 0, "{captured}");
    Ok(())
}

/// The same while files come and go: whatever a ring holds can be reported, and its
/// records get newer.
pub(crate) fn reported_in_turn(path: &Path) -> Result<()> {
    needs_speed()?;
    let (desert, directory) = (Desert::new()?, Directory::new()?);
    let role = desert.role("reported-ring")?;
    let (ring, first) = (directory.file("ring"), directory.file("ring0"));
    let recorder = Recorder::start(path, &ring, &first, &["-C", "12k", "-W", "3"])?;
    let pattern = PathBuf::from(format!("{}*", ring.display()));
    let begun = Instant::now();
    let (mut until, mut reports) = (String::new(), 0);
    // Long enough for some rounds of the ring.
    while begun.elapsed() < Duration::from_secs(6) || reports < 10 {
        fail_often(&role, 300)?;
        let told = report(path, &pattern)?;
        let now = told.object["captured"]["until"].as_str();
        let now = now.context("no end")?.to_owned();
        ensure!(now >= until, "first until {until}, then until {now}");
        until = now;
        reports += 1;
    }
    recorder.stop()?;
    let told = report(path, &pattern)?;
    let captured = &told.object["captured"];
    ensure!(captured["runs"][0]["end"] == "interrupted", "{captured}");
    let number = super::read_whole(&first)?[0]["file"]["number"].as_u64();
    ensure!(
        number.is_some_and(|number| number > 2),
        "no round: {number:?}"
    );
    Ok(())
}

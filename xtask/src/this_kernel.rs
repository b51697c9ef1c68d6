//! The live tests on the kernel that is running.

use crate::binaries::Binaries;
use crate::live::Run;
use crate::{run, say};
use anyhow::{Context as _, Result};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

/// All of them; what fails is tried once more.
pub(crate) fn run(binaries: &Binaries) -> Result<Run> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let series: Vec<&str> = release.trim().split('.').take(2).collect();
    let name = format!("this:{}", series.join("."));
    let start = Instant::now();
    say::note(&format!("live tests on this kernel ({})", release.trim()));
    let mut run = live_tests(&name, binaries, &[])?;
    run.try_again(|alone| live_tests(&name, binaries, alone).unwrap_or_default());
    say::note(&format!(
        "this kernel: {} in {} s",
        run.counts(),
        start.elapsed().as_secs()
    ));
    Ok(run)
}

fn live_tests(name: &str, binaries: &Binaries, arguments: &[String]) -> Result<Run> {
    let mut child = run::spawn(
        run::as_root(&binaries.live)?
            .arg("--tracer")
            .arg(&binaries.tracer)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    let stderr = child
        .stderr
        .take()
        .context("the live tests have no stderr")?;
    // Beside each other: a full pipe would stop the tests.
    let remarks = thread::spawn(move || text(stderr));
    let mut output = text(
        child
            .stdout
            .take()
            .context("the live tests have no stdout")?,
    );
    let status = child.wait()?;
    output.push_str(&remarks.join().unwrap_or_default());
    Ok(Run::read(name, &output, status.code()))
}

fn text(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is still worth showing.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

//! tracer beside a case: started, read while it runs, ended as Ctrl-C does.

use super::lab::{Lab, signal, until};
use super::records::Records;
use crate::run;
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// What tracer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
}

/// Old kernels let go of hooks slowly.
const ENDING: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Watching {
    child: Child,
    output: PathBuf,
    /// The same records, where they are kept as JSON.
    capture: PathBuf,
}

impl Watching {
    /// Starts tracer and waits until its hooks are in place.
    pub(super) fn start(lab: &Lab, format: Format) -> Result<Self> {
        let output = lab.directory.join("tracer.out");
        let capture = lab.directory.join("capture.zst");
        let stdout = File::create(&output)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM"])
            .arg(lab.tracer())
            .arg("watch");
        let ready = match format {
            Format::Json => {
                command.args(["--format", "json", "-w"]).arg(&capture);
                "\"type\":\"startup\""
            }
            Format::Text => {
                command.stderr(stdout.try_clone()?);
                "tracer on "
            }
        };
        let watching = Self {
            child: run::spawn(command.stdout(stdout))?,
            output,
            capture,
        };
        until("tracer", || Ok(watching.text()?.contains(ready)))
            .with_context(|| watching.text().unwrap_or_default())?;
        Ok(watching)
    }

    /// Everything written so far.
    pub(super) fn text(&self) -> Result<String> {
        let bytes = fs::read(&self.output).context("tracer's output")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The records so far that are about the lab.
    pub(super) fn records(&self, lab: &Lab) -> Result<Records> {
        Records::read(&self.text()?, lab)
    }

    /// What `tracer report` of one process shows on a screen of 24 lines, after
    /// the end.
    pub(super) fn first_screen(&self, lab: &Lab, comm: &str) -> Result<String> {
        let mut report = Command::new(lab.tracer());
        let output = report
            .args(["report", "--comm", comm])
            .arg(&self.capture)
            .output()?;
        ensure!(output.status.success(), "tracer report: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().take(24).collect::<Vec<_>>().join("\n"))
    }

    /// Ends tracer, which must end well.
    pub(super) fn stop(&mut self) -> Result<()> {
        signal("INT", self.child.id())?;
        let status = run::wait_at_most(&mut self.child, ENDING)?;
        let status = status.context("tracer did not end after SIGINT")?;
        ensure!(status.success(), "tracer ended with {status}");
        Ok(())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Only if the case failed before `stop`.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = signal("TERM", self.child.id());
            let _ = run::wait_at_most(&mut self.child, ENDING);
        }
    }
}

//! A program that runs beside the cases, and what it writes.

use super::lab::signal;
use crate::run;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Old kernels let go of hooks slowly.
const ENDING: Duration = Duration::from_secs(30);

/// It ends with this one.
pub(super) struct Program {
    child: Child,
    /// What it writes.
    output: PathBuf,
}

impl Program {
    /// `output`: standard error goes beside that, into a file that ends in `.err`.
    pub(super) fn start(program: &Path, words: &[&str], output: PathBuf) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM"])
            .arg(program)
            .args(words)
            .stdout(File::create(&output)?)
            .stderr(File::create(output.with_extension("err"))?);
        let child = run::spawn(&mut command)?;
        Ok(Self { child, output })
    }

    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// What it says on standard error.
    pub(super) fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(self.output.with_extension("err"))?)
    }

    /// The JSON lines that it has written whole.
    pub(super) fn records(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.output)?;
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let records = whole.lines().map(serde_json::from_str);
        Ok(records.collect::<Result<_, _>>()?)
    }

    /// Ends it with a signal.
    pub(super) fn stop(&mut self, name: &str) -> Result<ExitStatus> {
        signal(name, self.child.id())?;
        self.ended(ENDING)
    }

    /// Waits for its end.
    pub(super) fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = run::wait_at_most(&mut self.child, limit)?;
        status.with_context(|| format!("it did not end within {} s", limit.as_secs()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = signal("TERM", self.child.id());
            let _ = run::wait_at_most(&mut self.child, ENDING);
        }
    }
}

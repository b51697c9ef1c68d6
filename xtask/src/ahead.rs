//! Builds what the last steps of `xtask test` need while the ones before mostly wait.
//!
//! In a process of its own, at the lowest priority. Nothing is judged here: whoever needs
//! a thing builds it as well, and finds it done or says why it cannot be.

use crate::place::Place;
use crate::{dist, fuzz, run, say, toolchain};
use anyhow::{Context as _, Result};
use std::process::{Child, Command, Stdio};

/// The word with which this program runs itself.
pub(crate) const INSIDE: &str = "ahead-inside";

/// A build that goes on.
pub(crate) struct Ahead(Child);

/// Begins to build.
pub(crate) fn start(place: &Place) -> Result<Ahead> {
    // Here, because two at once cannot install packages.
    fuzz::need_compiler()?;
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(own)
        .arg(INSIDE)
        .current_dir(&place.root)
        .stdout(Stdio::null());
    say::note("building the fuzz targets, tracer as it is installed, and packages meanwhile");
    run::spawn(&mut command).map(Ahead)
}

impl Ahead {
    /// Waits until everything is built, or nothing more can be.
    pub(crate) fn wait(mut self) -> Result<()> {
        if !self.0.wait()?.success() {
            say::note("not everything could be built ahead");
        }
        Ok(())
    }
}

/// What is built.
pub(crate) fn inside(place: &Place) -> Result<()> {
    fuzz::build(place, false)?;
    run::check(
        toolchain::cargo()
            .args(["build", "--quiet", "--release", "--package", "tracer"])
            .current_dir(&place.root),
    )?;
    dist::parts(place).map(drop)
}

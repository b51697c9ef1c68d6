//! `xtask watch`: builds tracer and becomes `tracer watch`.

use crate::place::Place;
use crate::{binaries, run};
use anyhow::{Context as _, Result};
use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;

/// Builds tracer, then replaces this process with it; returns only on failure.
pub(crate) fn watch(place: &Place, arguments: &[&str]) -> Result<Infallible> {
    let mut command = run::as_root(&binaries::tracer(place)?)?;
    let error = command.arg("watch").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", run::name(&command)))
}

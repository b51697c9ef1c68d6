//! Every `tracer` command that the README shows is run.

use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};

use crate::record::Directory;
use crate::{cli, tracer};

const README: &str = include_str!("../../../README.md");

/// The lines of the README's shell blocks that run tracer.
fn commands() -> impl Iterator<Item = &'static str> {
    let mut is_shell = false;
    README.lines().filter(move |line| {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
        }
        is_shell && line.starts_with("sudo tracer ")
    })
}

/// Runs each for a moment.
pub(crate) fn every_command(path: &Path) -> Result<()> {
    // Files that one command writes are there for the next, and must not stay.
    let directory = Directory::new()?;
    let mut found = 0;
    for line in commands() {
        found += 1;
        run(path, &directory, line).with_context(|| format!("`{line}`"))?;
    }
    ensure!(found >= 5, "the README shows only {found} commands");
    Ok(())
}

/// As the README says, but root already and for a moment only.
fn run(path: &Path, directory: &Directory, line: &str) -> Result<()> {
    let mut words: Vec<&str> = line.split(' ').skip(2).collect();
    let verb = words.remove(0);
    let mut command = tracer::verb(&path.canonicalize()?, verb);
    command.current_dir(&directory.path);
    if !["watch", "record"].contains(&verb) {
        // The others end by themselves.
        let output = command.args(&words).output()?;
        // A kernel that lacks something is a finding, not a failure.
        let has_findings = verb == "doctor" && output.status.code() == Some(1);
        return if has_findings {
            Ok(())
        } else {
            ended_well(output)
        };
    }
    let own = words.iter().position(|word| *word == "--");
    match words.iter().position(|word| *word == "--duration") {
        Some(duration) => words[duration + 1] = "300ms",
        None if own.is_none() => words.extend(["--duration", "300ms"]),
        None => {}
    }
    let output = cli::output(command.args(&words))?;
    // A traced command ends as it likes: it may be missing, nobody may answer.
    if own.is_some() && !matches!(output.status.code(), None | Some(2)) {
        return Ok(());
    }
    ended_well(output)
}

fn ended_well(output: Output) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ended with {}; stderr: {stderr}",
        output.status
    );
    Ok(())
}

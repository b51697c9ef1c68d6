//! What does a program cost?

use crate::run;
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::ops::Add;
use std::path::Path;
use std::process::Command;

/// GNU time: what a program and everything it waited for took.
pub(super) const PROGRAM: &str = "/usr/bin/time";

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// From begin to end.
    pub(super) seconds: f64,
    /// Of all processors together.
    pub(super) processor: f64,
    /// Most memory at any moment, of the largest process.
    pub(super) megabytes: f64,
}

/// One thing after another.
impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            processor: self.processor + other.processor,
            megabytes: self.megabytes.max(other.megabytes),
        }
    }
}

/// Runs `words` in `directory`; what they print is in the file `printed` there.
pub(super) fn cost(directory: &Path, words: &[&str]) -> Result<Cost> {
    let mut command = Command::new(PROGRAM);
    let note = directory.join("cost");
    command
        .args(["-f", "%e %U %S %M", "-o"])
        .arg(&note)
        .args(words)
        .current_dir(directory)
        .stdout(File::create(directory.join("printed"))?);
    let output = run::spawn(command.stderr(std::process::Stdio::piped()))?.wait_with_output()?;
    run::succeeded(
        output.status,
        &command,
        &String::from_utf8_lossy(&output.stderr),
    )?;
    read(&fs::read_to_string(&note)?)
}

fn read(told: &str) -> Result<Cost> {
    let numbers: Vec<f64> = told
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{PROGRAM} said {told:?}"))?;
    let [seconds, user, system, kilobytes] = numbers[..] else {
        anyhow::bail!("{PROGRAM} said {told:?}");
    };
    Ok(Cost {
        seconds,
        processor: user + system,
        megabytes: kilobytes * 1024.0 / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_says() -> Result<()> {
        let cost = read("1.50 1.00 0.25 2000\n")?;
        let wanted = Cost {
            seconds: 1.5,
            processor: 1.25,
            megabytes: 2.048,
        };
        assert_eq!(cost, wanted);
        assert_eq!((cost + cost).megabytes, 2.048);
        assert!(read("Command exited with non-zero status 1").is_err());
        Ok(())
    }
}

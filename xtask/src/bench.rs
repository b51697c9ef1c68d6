//! `xtask bench`: what tracer costs, beside the same work done in another way in
//! the same run.
//!
//! What needs root runs in this program started once more (`inside`), in a mount
//! namespace of its own. It changes nothing outside of that: loads have network
//! namespaces that end with them, and so do the kernel's statistics.

mod beside;
mod capture;
mod census;
mod connect;
mod crowd;
mod failures;
mod growth;
mod load;
mod machine;
mod measure;
mod page;
mod process;
mod queue;
mod said;
pub(crate) mod soak;
mod start;
mod table;
mod tiers;
mod tools;
mod watched;

use crate::binaries::{self, Binaries};
use crate::live::Run;
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tools::Tools;

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "bench-inside";

/// Measures, and gives what shall stand in the page.
type Measure = fn(&Tools) -> Result<String>;

/// What can be measured, besides captures.
const BENCHES: [(&str, Measure); 6] = [
    ("connect", connect::measure),
    ("crowd", crowd::measure),
    ("queue", queue::measure),
    ("start", start::measure),
    ("census", census::measure),
    ("growth", growth::measure),
];

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// `None`: everything.
    what: Option<String>,
    /// How many events a capture gets; the other ways get a tenth.
    events: u64,
    /// Write the tables into the page.
    write: bool,
}

impl Choice {
    /// Reads the words after `xtask bench`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut choice = Self {
            what: None,
            events: 10_000_000,
            write: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => choice.write = true,
                "--events" => {
                    let number = words.next().context("--events needs a number")?;
                    choice.events = number
                        .replace('_', "")
                        .parse()
                        .with_context(|| format!("`{number}` is no number of events"))?;
                }
                word if choice.what.is_none() && names().any(|name| name == word) => {
                    choice.what = Some(word.to_owned());
                }
                other => {
                    let names: Vec<&str> = names().collect();
                    bail!(
                        "`{other}` is none of {}, --events, --write",
                        names.join(", ")
                    );
                }
            }
        }
        // Less says nothing, and more takes longer than anybody waits.
        if !(100_000..=100_000_000).contains(&choice.events) {
            bail!("--events takes 100000 to 100000000");
        }
        Ok(choice)
    }

    fn has(&self, name: &str) -> bool {
        self.what.as_deref().is_none_or(|what| what == name)
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    [CAPTURE, TIERS]
        .into_iter()
        .chain(BENCHES.map(|(name, _)| name))
}

const CAPTURE: &str = "capture";
const TIERS: &str = "tiers";
const SOAK: &str = "soak";
const BESIDE: &str = "beside";

/// `xtask beside`
pub(crate) fn beside(place: &Place, binaries: &Binaries) -> Result<Run> {
    let (output, _) = spawned_as_root(place, &[BESIDE], binaries)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Run::read(BESIDE, &text, output.status.code()))
}

/// `xtask soak`
pub(crate) fn soak(place: &Place, choice: &soak::Choice) -> Result<()> {
    let what = [SOAK, &choice.minutes.to_string()];
    let told = as_root(place, &what, &build(place)?)?;
    say::result(&told);
    match choice.write {
        true => page::write(place, "reliability.md", SOAK, &told),
        false => Ok(()),
    }
}

/// Measures, and tells.
pub(crate) fn run(place: &Place, choice: &Choice) -> Result<()> {
    let told = |what: &str, told: &str| -> Result<()> {
        say::result(told);
        match choice.write {
            true => page::write(place, "benchmarks.md", &format!("bench {what}"), told),
            false => Ok(()),
        }
    };
    if choice.has(CAPTURE) {
        told(CAPTURE, &capture::measure(place, choice.events)?)?;
    }
    let others = BENCHES.iter().filter(|(name, _)| choice.has(name));
    let mut built = None;
    for (what, _) in others {
        let binaries = match &built {
            Some(binaries) => binaries,
            None => built.insert(build(place)?),
        };
        told(what, &as_root(place, &[what], binaries)?)?;
    }
    if choice.has(TIERS) {
        told(TIERS, &tiers::measure(place, &binaries::build(place)?)?)?;
    }
    Ok(())
}

/// The loads, and tracer as users download it.
fn build(place: &Place) -> Result<Binaries> {
    let live = binaries::build(place)?.live;
    let tracer = binaries::for_users(place)?;
    Ok(Binaries { tracer, live })
}

/// Measures in a process that is root and has its own mounts.
fn as_root(place: &Place, what: &[&str], binaries: &Binaries) -> Result<String> {
    let (output, command) = spawned_as_root(place, what, binaries)?;
    run::succeeded(output.status, &command, "")?;
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

fn spawned_as_root(place: &Place, what: &[&str], binaries: &Binaries) -> Result<(Output, Command)> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = run::as_root(Path::new("unshare"))?;
    command
        .args(["--mount"])
        .arg(own)
        .arg(INSIDE)
        .args([&binaries.tracer, &binaries.live])
        .args(what)
        .current_dir(&place.root)
        .stdout(Stdio::piped());
    let output = run::spawn(&mut command)?.wait_with_output()?;
    Ok((output, command))
}

/// The part that runs as root.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [tracer, live, what, rest @ ..] = words else {
        bail!("{INSIDE} needs two programs and a word");
    };
    if let (&SOAK, [minutes]) = (what, rest) {
        let tools = Tools::alone(place, tracer, live)?;
        say::result(&soak::measure(&tools, minutes.parse()?)?);
        return Ok(true);
    }
    if *what == BESIDE {
        return Ok(beside::judge(&Tools::tracers(place, tracer, live)?));
    }
    let bench = BENCHES.iter().find(|(name, _)| name == what);
    let (_, measure) = bench.with_context(|| format!("`{what}` cannot be measured"))?;
    say::result(&measure(&Tools::new(place, tracer, live)?)?);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() -> Result<()> {
        let choice = Choice::parse(&["capture", "--events", "1_000_000", "--write"])?;
        assert_eq!((choice.events, choice.write), (1_000_000, true));
        assert!(choice.has("capture") && !choice.has("queue"));
        assert!(names().all(|name| Choice::parse(&[]).is_ok_and(|all| all.has(name))));
        for wrong in [
            &["everything"][..],
            &["capture", "queue"],
            &["capture", "--events"],
            &["capture", "--events", "7"],
            &["capture", "--fast"],
        ] {
            assert!(Choice::parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }
}

//! `xtask cases`: failures that people meet, made with the software they meet
//! them with, and whether tracer explains each.
//!
//! Packages, namespaces and tracer need root, building does not: this command
//! builds tracer and runs itself once more as root for the rest (`inside`).

mod beside;
mod bound_and_unused;
mod connections_kept_open;
pub(crate) mod duckdb;
mod fastcgi_slow_worker;
pub(crate) mod lab;
mod libcurl_without_keepalive;
mod listen_without_accept;
pub(crate) mod otlp;
mod packages;
mod page;
mod programs;
pub(crate) mod prometheus;
mod proxy_without_keepalive;
mod records;
mod rotel;
mod server_closes_first;
mod server_restart;
mod venv;
pub(crate) mod view;
mod watching;

use crate::live::{Counts, Run};
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result, bail, ensure};
use lab::{Lab, Wire};
use records::Records;
use std::ffi::OsStr;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use watching::{Format, Watching};

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "cases-inside";

const WRITE: &str = "--write";

/// What the caller asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Names of cases; empty for all.
    pub(crate) names: Vec<String>,
    /// Write tracer's answers into the pages.
    pub(crate) write: bool,
}

impl Choice {
    /// Reads the words after `xtask cases`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut choice = Self::default();
        for word in words {
            if *word == WRITE {
                choice.write = true;
            } else if CASES.iter().any(|case| case.name == *word) {
                choice.names.push((*word).to_owned());
            } else {
                let names = CASES.map(|case| case.name).join(", ");
                bail!("`{word}` is not a case; these are: {names}");
            }
        }
        Ok(choice)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        let write = self.write.then_some(WRITE);
        write
            .into_iter()
            .chain(self.names.iter().map(String::as_str))
    }

    fn has(&self, case: &Case) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == case.name)
    }
}

/// A failure to stage.
struct Case {
    /// Also of its page, `docs/cases/NAME.md`.
    name: &'static str,
    wire: Wire,
    /// Stages it while tracer watches, checks what its programs saw, and says
    /// what tracer's records must say.
    stage: fn(&Lab) -> Result<Judge>,
    /// What a report of it must say; `None`: there is no failure.
    report: Option<Told>,
}

/// What the first screen of a report must say.
struct Told {
    /// The process that failed or did not accept: only what concerns it is
    /// looked at, because other programs may fail at the same time.
    of: &'static str,
    words: &'static [&'static str],
}

/// Looks at the records so far: asked again and again until it is content.
type Judge = Box<dyn Fn(&Records) -> Result<()>>;

const CASES: [Case; 8] = [
    libcurl_without_keepalive::CASE,
    connections_kept_open::CASE,
    proxy_without_keepalive::CASE,
    server_closes_first::CASE,
    server_restart::CASE,
    listen_without_accept::CASE,
    fastcgi_slow_worker::CASE,
    bound_and_unused::CASE,
];

/// How long tracer may take from a failure to everything it says about it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a text-only run waits for the same.
const TELLING: Duration = Duration::from_secs(4);

/// Why a case cannot be staged here: not a failure.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Runs the cases as root.
pub(crate) fn run(place: &Place, tracer: &Path, choice: &Choice) -> Result<Run> {
    let mut words = vec![OsStr::new(INSIDE), tracer.as_os_str()];
    words.extend(choice.words().map(OsStr::new));
    as_root(place, "cases", &words)
}

/// Runs this program as root, for what `name` stands for in the table.
pub(crate) fn as_root(place: &Place, name: &str, words: &[&OsStr]) -> Result<Run> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = run::as_root(&own)?;
    command
        .args(words)
        .current_dir(&place.root)
        .stdout(Stdio::piped());
    let mut child = run::spawn(&mut command)?;
    let mut output = String::new();
    let mut stdout = child.stdout.take().context("it has no stdout")?;
    stdout.read_to_string(&mut output)?;
    let status = child.wait()?;
    Ok(Run::read(name, &output, status.code()))
}

/// The part that runs as root: a line for each case, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [tracer, rest @ ..] = words else {
        bail!("{INSIDE} needs the path of tracer");
    };
    let choice = Choice::parse(rest)?;
    packages::install()?;
    lab::remove_stale(place);
    let mut telling = Telling::default();
    for case in CASES.iter().filter(|case| choice.has(case)) {
        say::note(&format!("case {}", case.name));
        let start = Instant::now();
        let mut outcome = judged(place, case, Path::new(tracer));
        if choice.write && outcome.is_ok() {
            outcome = written(place, case, Path::new(tracer));
        }
        telling.tell(&format!("case/{}", case.name), start, outcome);
    }
    Ok(telling.sum_up())
}

/// Tells outcomes in the words of the live tests.
#[derive(Debug, Default)]
pub(crate) struct Telling(Counts);

impl Telling {
    /// How one ended that began at `start`.
    pub(crate) fn tell(&mut self, name: &str, start: Instant, outcome: Result<()>) {
        let counts = &mut self.0;
        let (verdict, count, detail) = match outcome {
            Ok(()) => ("ok", &mut counts.passed, String::new()),
            Err(error) if error.is::<Skip>() => ("skip", &mut counts.skipped, error.to_string()),
            Err(error) => ("FAIL", &mut counts.failed, format!("{error:#}")),
        };
        *count += 1;
        let seconds = format!("{:.1}s", start.elapsed().as_secs_f64());
        say::result(&format!(
            "live auto {name} {verdict} {seconds} {}",
            detail.replace('\n', "; "),
        ));
        say::note(&format!("{name}: {verdict} {seconds} {detail}"));
    }

    /// Says how many ended how; whether all is well.
    pub(crate) fn sum_up(self) -> bool {
        let Counts {
            passed,
            failed,
            skipped,
        } = self.0;
        say::result(&format!(
            "live-summary auto passed={passed} failed={failed} skipped={skipped}"
        ));
        failed == 0
    }
}

/// Stages a case under a tracer that writes records, and judges them.
fn judged(place: &Place, case: &Case, tracer: &Path) -> Result<()> {
    let lab = Lab::new(place, tracer, case.wire)?;
    let mut watching = Watching::start(&lab, Format::Json)?;
    let judge = (case.stage)(&lab)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = judge(&watching.records(&lab)?) {
        if Instant::now() > deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // What tracer says when it ends must not spoil it.
    watching.stop()?;
    let records = watching.records(&lab)?;
    records.add_up()?;
    judge(&records).context("after tracer's end")?;
    match &case.report {
        Some(told) => tells(&watching.first_screen(&lab, told.of)?, told.words),
        None => Ok(()),
    }
}

fn tells(screen: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(
            screen.contains(word),
            "the first screen of the report does not say `{word}`:\n{screen}"
        );
    }
    Ok(())
}

/// Stages a case under a tracer that writes text, and puts that into the case's page.
fn written(place: &Place, case: &Case, tracer: &Path) -> Result<()> {
    let lab = Lab::new(place, tracer, case.wire)?;
    let mut watching = Watching::start(&lab, Format::Text)?;
    // People read this one.
    let _judge = (case.stage)(&lab)?;
    std::thread::sleep(TELLING);
    watching.stop()?;
    let answer = watching.text()? + &lab.aside();
    page::write(place, case.name, &answer, &lab)
}

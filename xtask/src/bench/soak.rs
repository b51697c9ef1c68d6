//! `xtask soak`: does tracer stay as it is for as long as it runs? Mixed failures at a
//! modest rate in a network namespace of their own; minute by minute what tracer holds,
//! and what it has counted beside what the programs and the kernel have.

use super::load::{Load, number};
use super::said::{self, Event, events};
use super::table::Table;
use super::tools::Tools;
use super::watched::{self, Watched};
use super::{machine, process};
use crate::say;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Failures a second.
const RATE: u32 = 300;
/// A minute, but for the wait until tracer has told its totals.
const MILLIS: u32 = 58_000;
/// How many minutes tracer may take to fill what it keeps a bounded number of: 4096
/// processes, and 65,536 peers of a listener that drops, of which nearly 60 come a second.
const WARM_UP: usize = 20;
/// KB a minute after that; 14 MB a day.
const SLOPE: f64 = 10.0;
/// Memory goes up and down by more than that, as tracer forgets half of what it keeps at
/// once: so many standard errors above it are growth.
const ERRORS: f64 = 2.0;
/// Of the table: each minute would be too many.
const ROWS: usize = 10;

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) minutes: u32,
    /// Write the table into the page.
    pub(crate) write: bool,
}

impl Choice {
    /// Reads the words after `xtask soak`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut choice = Self {
            minutes: 30,
            write: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => choice.write = true,
                "--minutes" => {
                    let number = words.next().context("--minutes needs a number")?;
                    choice.minutes = number
                        .parse()
                        .with_context(|| format!("`{number}` is no number of minutes"))?;
                }
                other => bail!("`{other}` is none of --minutes, --write"),
            }
        }
        ensure!(choice.minutes > 0, "a soak takes a minute at least");
        Ok(choice)
    }
}

/// How things stood after a minute.
struct Minute {
    kilobytes: f64,
    descriptors: usize,
    threads: usize,
    /// As the programs saw it.
    failed: f64,
    counted: f64,
    in_events: f64,
    lost: f64,
    /// Of the namespace's `ListenDrops`.
    dropped: f64,
    drops_counted: f64,
}

impl Minute {
    /// Failures that somebody told and somebody else did not.
    fn drift(&self) -> f64 {
        let of_all = (self.counted - self.failed).abs();
        let of_drops = (self.drops_counted - self.dropped).abs();
        // What was lost may have been anybody's.
        let of_events = (self.in_events - self.counted).abs() - self.lost;
        of_all.max(of_drops).max(of_events)
    }
}

pub(super) fn measure(tools: &Tools, minutes: u32) -> Result<String> {
    let machine = machine::describe()?;
    let capture = tools.directory.join("soak.zst");
    let capture = capture.to_str().context("an odd path")?;
    let address = free_address()?;
    let mut load = Load::start(&tools.live)?;
    // What else fails on the machine is not of the soak.
    let own = load.netns.to_string();
    let flags = ["--netns", &own, "--interval", "1s", "--metrics", &address];
    let flags = [&flags[..], &["-w", capture, "-C", "1M", "-W", "3"]].concat();
    let mut watched = Watched::tracer(&tools.tracer, &flags)?;
    let mut told = Vec::new();
    let mut in_events = 0.0;
    for minute in 1..=minutes {
        let answer = load.ask(&format!("mixed {RATE} {MILLIS}"))?;
        scrape(&address)?;
        await_totals(&mut watched)?;
        let lines = watched.taken();
        in_events += events(&lines, load.netns)
            .map(|Event { count, .. }| count)
            .sum::<f64>();
        let totals = said::totals(&lines)?;
        let minute_told = reading(watched.pid(), &answer, &totals, load.netns, in_events)?;
        say::note(&format!(
            "minute {minute} of {minutes}: {:.0} KB, {:.0} failed, {:.0} counted, drift {:.0}",
            minute_told.kilobytes,
            minute_told.failed,
            minute_told.counted,
            minute_told.drift()
        ));
        told.push(minute_told);
    }
    let lines = watched.stop()?;
    let counted = said::counted(&lines, load.netns)?;
    let last = told.last().context("no minute")?;
    ensure!(counted == last.counted, "{counted} in the end");
    let files = std::fs::read_dir(&tools.directory)?.count();
    report(&machine, &told, files)
}

/// Totals of a moment at which nothing fails any more: those that are read now may have
/// been made before.
fn await_totals(watched: &mut Watched) -> Result<()> {
    let quiet = watched::now() + 1.0;
    while watched.await_line("\"type\":\"totals\"")?.0 < quiet {}
    Ok(())
}

fn reading(pid: u32, answer: &Value, totals: &Value, netns: u64, in_events: f64) -> Result<Minute> {
    let rows = totals["counts"].as_array().into_iter().flatten();
    let own = rows.filter(|row| row["netns"] == netns);
    let sum = |kind: &str| -> f64 {
        let of_kind = own
            .clone()
            .filter(|row| row["kind"].as_str().is_some_and(|it| it.starts_with(kind)));
        of_kind.filter_map(|row| row["count"].as_f64()).sum()
    };
    let failed = number(answer, "connects")? + number(answer, "binds")? + number(answer, "syns")?;
    let held = process::held(pid)?;
    Ok(Minute {
        kilobytes: process::allocated(pid)? * 1e3,
        descriptors: held.descriptors,
        threads: held.threads,
        failed,
        counted: sum(""),
        in_events,
        lost: totals["lost"].as_f64().context("no lost")?,
        dropped: number(answer, "drops")?,
        drops_counted: sum("syn_"),
    })
}

/// Of this host, and nobody's.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Whoever watches the watcher: its metrics are to be had.
fn scrape(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains("\ntracer_up 1"), "a scrape: {answer}");
    Ok(())
}

fn report(machine: &str, told: &[Minute], files: usize) -> Result<String> {
    let mut table = Table::new([
        "minute",
        "KB allocated",
        "descriptors",
        "threads",
        "failed",
        "counted",
        "in events",
        "lost",
        "ListenDrops",
        "counted drops",
    ]);
    let every = told.len().div_ceil(ROWS);
    for (number, minute) in (1..).zip(told) {
        if number % every == 0 || number == 1 || number == told.len() {
            table.row([
                number.to_string(),
                format!("{:.0}", minute.kilobytes),
                minute.descriptors.to_string(),
                minute.threads.to_string(),
                minute.failed.to_string(),
                minute.counted.to_string(),
                minute.in_events.to_string(),
                minute.lost.to_string(),
                minute.dropped.to_string(),
                minute.drops_counted.to_string(),
            ]);
        }
    }
    let (first, last) = told.first().zip(told.last()).context("no minute")?;
    let memory: Vec<f64> = told.iter().map(|minute| minute.kilobytes).collect();
    let later = memory.get(WARM_UP..).unwrap_or_default();
    let mut slopes = format!("{:.0} KB a minute in all", slope(&memory).0);
    let (grows, error) = slope(later);
    let is_known = later.len() > 2;
    if is_known {
        slopes += &format!(
            ", {grows:.0} KB after minute {WARM_UP}, give or take {error:.0} (at most \
             {SLOPE}, and {ERRORS} standard errors)"
        );
    }
    let drift = told.iter().map(Minute::drift).fold(0.0, f64::max);
    let told = format!(
        "On {machine}.\n\n{RATE} failures a second, of five kinds: connects without a port, \
         binds to a port that is taken, binds when all are, SYNs that find a full accept \
         queue, processes that fail once and are gone. `tracer watch` with JSON, a capture of \
         three files of 1 MiB in turn ({files} at the end), metrics (scraped once a minute):\
         \n\n{table}\n\nMemory, least squares: {slopes}. Most that two of the counts ever \
         differed by: {drift}."
    );
    ensure!(drift == 0.0, "the counts differ: {told}");
    ensure!(
        !is_known || grows - ERRORS * error <= SLOPE,
        "memory grows: {told}"
    );
    ensure!(
        last.descriptors <= first.descriptors + 2 && last.threads <= first.threads + 1,
        "descriptors or threads grow: {told}"
    );
    Ok(told)
}

/// Of the line through these points, by least squares: per step, and its standard error.
fn slope(points: &[f64]) -> (f64, f64) {
    let count = points.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = points.iter().sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (at, point) in points.iter().enumerate() {
        let away = at as f64 - middle;
        above += away * (point - mean);
        below += away * away;
    }
    let slope = above / below;
    let off = |(at, point): (usize, &f64)| point - mean - slope * (at as f64 - middle);
    let squares: f64 = points.iter().enumerate().map(|it| off(it).powi(2)).sum();
    (slope, (squares / (count - 2.0) / below).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() -> Result<()> {
        let choice = Choice::parse(&["--minutes", "2", "--write"])?;
        assert_eq!((choice.minutes, choice.write), (2, true));
        assert_eq!(Choice::parse(&[])?.minutes, 30);
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["30"]] {
            assert!(Choice::parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn slopes() {
        assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0]), (2.0, 0.0));
        assert_eq!(slope(&[4.0, 4.0, 4.0]), (0.0, 0.0));
        // 6 of squares, one degree of freedom, 2 of the steps' squares.
        assert_eq!(slope(&[0.0, 3.0, 0.0]), (0.0, 3.0_f64.sqrt()));
    }
}

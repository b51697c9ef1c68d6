//! What tracer does about floods of SYNs that find a full accept queue.

use super::connect::{floor, programs, runs};
use super::load::{Load, number};
use super::said::{counted, events, totals};
use super::table::Table;
use super::tools::{Tools, median};
use super::watched::Watched;
use super::{machine, process};
use crate::say;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// SYNs a second; 0: as many as one thread can send.
const RATES: [u32; 4] = [10_000, 100_000, 200_000, 0];
const MILLIS: u32 = 3000;

/// What a flood did to tracer.
struct Flood {
    per_second: f64,
    drops: f64,
    overflows: f64,
    counted: f64,
    kernel: Value,
    /// Of one core, percent.
    share: f64,
    megabytes: (f64, f64, f64),
    described: f64,
    lag: (f64, f64),
}

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let machine = machine::describe()?;
    let mut counts = Table::new([
        "SYNs a second",
        "dropped",
        "ListenDrops",
        "tracer",
        "difference",
    ]);
    let mut costs = Table::new([
        "SYNs a second",
        "processor",
        "MB before",
        "MB after",
        "MB at most",
        "described",
        "lag, median",
        "lag, worst",
    ]);
    for rate in RATES {
        let name = match rate {
            0 => "as many as can be".to_owned(),
            rate => rate.to_string(),
        };
        say::note(&format!("SYNs a second: {name}"));
        let flood = flood(tools, rate)?;
        let name = format!("{name}: {:.0}", flood.per_second);
        counts.row([
            name.clone(),
            format!("{:.0}", flood.overflows),
            format!("{:.0}", flood.drops),
            format!("{:.0}", flood.counted),
            flood.kernel["difference"].to_string(),
        ]);
        costs.row([
            name,
            format!("{:.1} %", flood.share),
            format!("{:.1}", flood.megabytes.0),
            format!("{:.1}", flood.megabytes.1),
            format!("{:.1}", flood.megabytes.2),
            format!("{:.2} %", 100.0 * flood.described / flood.counted),
            format!("{:.1} ms", flood.lag.0 * 1e3),
            format!("{:.1} ms", flood.lag.1 * 1e3),
        ]);
    }
    let (without, with, each) = fastest(tools)?;
    Ok(format!(
        "On {machine}.\n\nSYNs from a TUN device to a listener whose accept queue is full, \
         {MILLIS} ms of each rate. `ListenOverflows` and `ListenDrops` of the namespace, \
         tracer's own count, and the difference that its last record states (budget: \
         none):\n\n{counts}\n\ntracer meanwhile: its processor time as a share of one core \
         (budget: 20 % at 200,000 a second), its memory (budget: flat; 24 MB at most, which the start decides), the share of \
         drops that became an event, and the time from a drop to its line of JSON:\n\n{costs}\n\n\
         As many as one thread can send: {without:.0} a second while nobody watches, \
         {with:.0} with tracer (× {:.2}). Its programs for each, by the kernel's \
         statistics:\n\n{each}",
        with / without
    ))
}

fn flood(tools: &Tools, rate: u32) -> Result<Flood> {
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    let pid = watched.pid();
    let before = process::processor(pid)?;
    let megabytes = process::memory(pid)?.0;
    let answer = load.ask(&format!("drop {rate} {MILLIS}"))?;
    let processor = process::processor(pid)? - before;
    let (after, peak) = process::memory(pid)?;
    let lines = watched.stop()?;
    let number = |name| number(&answer, name);
    let totals = totals(&lines)?;
    let kernel = totals["kernel"].as_array().into_iter().flatten();
    let kernel = kernel.clone().find(|row| row["netns"] == load.netns);
    let mut described = 0.0;
    let mut lags = Vec::new();
    for event in events(&lines, load.netns) {
        described += event.count;
        lags.push(lag(event.read, event.time)?);
    }
    let worst = lags.iter().copied().fold(0.0, f64::max);
    Ok(Flood {
        per_second: number("sent")? / number("seconds")?,
        drops: number("drops")?,
        overflows: number("overflows")?,
        counted: counted(&lines, load.netns)?,
        kernel: kernel.context("no kernel counters")?["listen_drops"].clone(),
        share: 100.0 * processor / number("seconds")?,
        megabytes: (megabytes, after, peak),
        described,
        lag: (median(lags)?, worst),
    })
}

/// Drops a second without tracer and with it, and what its programs take for one.
fn fastest(tools: &Tools) -> Result<(f64, f64, Table<5>)> {
    let order = format!("drop 0 {}", MILLIS / 4);
    let rate = || -> Result<f64> {
        let answer = Load::start(&tools.live)?.ask(&order)?;
        Ok(number(&answer, "sent")? / number(&answer, "seconds")?)
    };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        without.push(rate()?);
        let watched = Watched::tracer(&tools.tracer, &[])?;
        with.push(rate()?);
        watched.stop()?;
    }
    let watched = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    let runs = runs(&mut load, watched.pid(), &order)?;
    let counted = counted(&watched.stop()?, load.netns)?;
    let each = programs(&runs, floor(tools), counted);
    Ok((median(without)?, median(with)?, each))
}

/// Seconds from a record's `time` to when it was read (since 1970).
fn lag(read: f64, time: &str) -> Result<f64> {
    const DAY: f64 = 86_400.0;
    let no_time = || format!("`{time}` is no time");
    let (_, clock) = time
        .trim_end_matches('Z')
        .split_once('T')
        .with_context(no_time)?;
    let parts: Vec<f64> = clock.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds] = parts[..] else {
        anyhow::bail!(no_time());
    };
    let clock = (hours * 60.0 + minutes) * 60.0 + seconds;
    // A record is never hours late.
    Ok((read - clock + DAY / 2.0).rem_euclid(DAY) - DAY / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags() -> Result<()> {
        // 1970-01-02, a second after midnight.
        assert_eq!(lag(86_401.0, "1970-01-01T23:59:59.5Z")?, 1.5);
        assert_eq!(lag(86_401.0, "1970-01-02T00:00:00.75Z")?, 0.25);
        assert!(lag(0.0, "soon").is_err());
        Ok(())
    }
}

//! Killed at any moment, a capture holds all but the last second.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::{Directory, Recorder, events, of_type, read, sum};
use crate::cli::{Desert, fail_once};
use crate::{limits, say};

/// A failure: between these moments, in seconds of wall-clock time.
type Moment = (f64, f64);

/// How it is done: where everything is emulated, only a few are killed.
struct Plan {
    kills: usize,
    /// Recorders beside each other. Attaching is what takes time, not the rest.
    at_once: usize,
    /// Between failures: all recorders have to keep up with them.
    pause: Duration,
    /// How long a recorder lives, once it has begun its file.
    life: Duration,
    /// What may be missing beyond the second that waits for others, and beyond what
    /// was not read of the ring yet, in seconds: of nine in ten, and of all. The
    /// writer may have to wait for a processor.
    more: [f64; 2],
}

impl Plan {
    fn of_this_machine() -> Self {
        let pause = Duration::from_millis(1);
        match limits::in_guest() {
            false => Self {
                kills: 100,
                at_once: 5,
                pause,
                life: Duration::from_secs(3),
                more: [0.3, 1.5],
            },
            true => Self {
                kills: 5,
                at_once: 5,
                pause: pause * 50,
                life: Duration::from_secs(15),
                more: [5.0, 5.0],
            },
        }
    }
}

/// One that will be killed.
struct Victim {
    recorder: Recorder,
    spawned: (f64, Instant),
    /// When, once it has begun.
    due: Option<Instant>,
}

/// One that was.
struct Killed {
    recorder: Recorder,
    spawned: f64,
    at: f64,
    /// Failures by then.
    failures: usize,
}

pub(crate) fn killed(path: &Path) -> Result<()> {
    let plan = Plan::of_this_machine();
    let (desert, directory) = (Desert::new()?, Directory::in_memory("64m")?);
    let role = desert.role("flooding")?;
    let mut failures: Vec<Moment> = Vec::new();
    let mut alive: Vec<Victim> = Vec::new();
    let mut killed: Vec<Killed> = Vec::new();
    while killed.len() < plan.kills {
        while alive.len() < plan.at_once && alive.len() + killed.len() < plan.kills {
            let file = directory.file(&format!("{}-{}", killed.len(), alive.len()));
            let spawned = (now()?, Instant::now());
            let recorder = Recorder::spawn(path, &file, &file, &["--interval", "100ms"])?;
            alive.push(Victim {
                recorder,
                spawned,
                due: None,
            });
        }
        let before = now()?;
        fail_once(&role)?;
        failures.push((before, now()?));
        std::thread::sleep(plan.pause);
        for victim in &mut alive {
            if victim.due.is_none() && victim.recorder.has_begun() {
                victim.due = Some(Instant::now() + chance(plan.life)?);
            }
            let is_late = victim.due.is_none() && victim.spawned.1.elapsed() > limits::attach();
            ensure!(!is_late, "no capture was begun");
        }
        let is_due = |victim: &Victim| victim.due.is_some_and(|due| due <= Instant::now());
        if let Some(due) = alive.iter().position(is_due) {
            let Victim {
                recorder, spawned, ..
            } = alive.swap_remove(due);
            recorder.signal(libc::SIGKILL)?;
            killed.push(Killed {
                recorder,
                spawned: spawned.0,
                at: now()?,
                failures: failures.len(),
            });
        }
    }
    let mut missing = Vec::new();
    for mut one in killed {
        one.recorder.ended()?;
        let before = &failures[..one.failures];
        let age = judge(&one, before, desert.space.inum);
        missing.push(age.with_context(|| one.recorder.file.display().to_string())?);
    }
    missing.sort_by(f64::total_cmp);
    let [most, all] = [9 * missing.len() / 10, missing.len()].map(|n| missing[n.max(1) - 1]);
    say::remark(&format!(
        "killed {} times: the first missing failure was {:.2} s old in one half, {most:.2} s in nine of ten, {all:.2} s at most",
        missing.len(),
        missing[missing.len() / 2]
    ));
    ensure!(
        most <= 1.0 + plan.more[0] && all <= 1.0 + plan.more[1],
        "more is missing than a second: {missing:.2?}"
    );
    Ok(())
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// Any moment before `limit` will do.
fn chance(limit: Duration) -> Result<Duration> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    Ok(limit * (nanos / 1000 % 1000) / 1000)
}

/// When a record was made, in seconds of wall-clock time.
fn time(record: &Value) -> Result<f64> {
    let time = record["time"].as_str().context("no time")?;
    Ok(time.parse::<Timestamp>()?.as_duration().as_secs_f64())
}

/// `failures` until it was killed: how old the first is that is missing, in seconds,
/// beside what was not read of the ring.
fn judge(one: &Killed, failures: &[Moment], netns: u64) -> Result<f64> {
    // The kernel's clocks are compared once, at the start.
    const SLACK: f64 = 0.01;
    let read = read(&one.recorder.file)?;
    let startup = read.records.first().context("it is empty")?;
    ensure!(startup["type"] == "startup", "it begins with {startup}");
    ensure!(of_type(&read.records, "gap").is_empty(), "there are gaps");
    counters_agree(&read.records, netns)?;
    let attached = time(startup)?;
    let lost = sum(&read.records, "lost", "count");
    let most = failures.iter().filter(|(_, after)| *after > one.spawned);
    let told = events(&read.records, netns) + lost;
    let most = most.count() as u64;
    ensure!(told <= most, "{told} events of {most} failures");
    let mut since = lost;
    for event in of_type(&read.records, "event") {
        if event["netns"] == netns && time(event)? > attached - SLACK {
            since += event["count"].as_u64().unwrap_or(1);
        }
    }
    let mut since_then = failures.iter().filter(|(before, _)| *before > attached);
    let missing = since_then.nth(usize::try_from(since)?);
    let unread = unread(&read.records)?;
    Ok(missing.map_or(0.0, |(_, after)| (one.at - after - unread).max(0.0)))
}

/// How far reading the ring was behind, in seconds: totals are of the moment at
/// which they are written, the events before them of when they happened. (A tracer
/// built without optimisation reads some 3,000 events/s; of a flood the ring holds
/// 4,300.)
fn unread(records: &[Value]) -> Result<f64> {
    let (mut behind, mut last) = (0.0, None);
    for record in records {
        match (record["type"].as_str(), last) {
            (Some("event"), _) => last = Some(time(record)?),
            (Some("totals"), Some(last)) => behind = time(record)? - last,
            _ => {}
        }
    }
    Ok(behind)
}

/// The counters are exact, and each counted failure before the end of the file is
/// described in it: totals of a moment count the events up to that moment.
fn counters_agree(records: &[Value], netns: u64) -> Result<()> {
    let ours = |record: &&Value| record["netns"] == netns;
    let is_sum = |event: &&Value| event["count"] != 1;
    if sum(records, "lost", "count") > 0 || of_type(records, "event").iter().any(is_sum) {
        // When those were that were not described, nobody knows.
        return Ok(());
    }
    let described = of_type(records, "event").into_iter().filter(ours);
    let mut times = described.map(time).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    let mut told = 0;
    let mut earlier = f64::MIN;
    for record in records {
        if record["type"] == "event" && ours(&record) {
            told += 1;
        }
        if record["type"] != "totals" {
            continue;
        }
        let counts = record["counts"].as_array().context("no counts")?;
        let counts = counts.iter().filter(ours);
        let counted: u64 = counts.filter_map(|count| count["count"].as_u64()).sum();
        ensure!(told <= counted, "{told} events of {counted} counted");
        let index = usize::try_from(counted)?;
        let last = index.checked_sub(1).and_then(|last| times.get(last));
        let next = times.get(index);
        let made = time(record)?;
        ensure!(
            last.is_none_or(|last| *last <= made) && next.is_none_or(|next| *next >= earlier),
            "{counted} counted at {made:.6} (before that: {earlier:.6}), but event {counted} is of {last:?}, the next of {next:?}"
        );
        earlier = made;
    }
    Ok(())
}

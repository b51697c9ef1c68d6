//! What `cargo xtask bench` measures: a made-up night, written the real way.
//! No public interface; only the feature `bench` has it.

mod mix;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    capture::{rotate::Rotation, write::Options},
    output::{Output, json},
    record::{End, Record},
};
use mix::Mix;

/// How many events come before the loop looks up, as in `watch`.
const BATCH: u64 = 1024;

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many failures.
    pub events: u64,
    /// How many of them happen in a second, as their times tell.
    pub rate: u64,
}

/// Writes a capture as `tracer record` does, while the failures happen: not one
/// comes before its time, and what the writer cannot follow becomes a gap.
///
/// # Errors
/// It cannot be written.
pub fn capture(path: &Path, load: Load) -> Result<()> {
    let mut mix = Mix::new(load.rate);
    let options = Options {
        path: path.to_owned(),
        overwrite: true,
        rotation: Rotation::default(),
    };
    let mut output = Output::new(None, Some(options));
    output.reserve()?;
    output.startup(&mix.startup(), false)?;
    let begun = Instant::now();
    for number in 0..load.events {
        if number % BATCH == 0 {
            output.flush()?;
            sleep_until(begun, number, load.rate);
        }
        output.record(Record::Failure(mix.next()))?;
    }
    output.record(Record::End(&End {
        time: mix.now(),
        reason: "count".into(),
        exit_code: 0,
    }))?;
    Ok(output.finish()?)
}

/// Waits for the moment at which so many failures have happened.
fn sleep_until(begun: Instant, events: u64, rate: u64) {
    let micros = events.saturating_mul(1_000_000) / rate.max(1);
    let due = begun + Duration::from_micros(micros);
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Writes the same events as plain JSON Lines, as fast as it goes.
///
/// # Errors
/// It cannot be written.
pub fn json(path: &Path, load: Load) -> Result<()> {
    let mut mix = Mix::new(load.rate);
    let mut out = BufWriter::new(File::create(path)?);
    let mut line = Vec::new();
    for _ in 0..load.events {
        line.clear();
        json::event::write(mix.next(), &mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

/// Members of an event that become columns; what is in a list stays JSON.
const COLUMNS: [&str; 28] = [
    "time",
    "kind",
    "cause",
    "errno",
    "process/pid",
    "process/tid",
    "process/comm",
    "process/exe",
    "process/cmdline",
    "process/uid",
    "process/kernel",
    "process/role",
    "holders",
    "netns",
    "family",
    "protocol",
    "local",
    "remote",
    "socket/inode",
    "accept_queue/len",
    "accept_queue/max",
    "accept_queue/asked",
    "accept_queue/somaxconn",
    "request_queue/len",
    "request_queue/max",
    "census",
    "queue",
    "hook",
];

/// Writes the same events as rows for a database: a line of names, then fields
/// with tabs between them.
///
/// # Errors
/// It cannot be written.
pub fn rows(path: &Path, load: Load) -> Result<()> {
    let mut mix = Mix::new(load.rate);
    let mut out = BufWriter::new(File::create(path)?);
    let names = COLUMNS.map(|column| column.trim_start_matches("process/").replace('/', "_"));
    writeln!(out, "{}", names.join("\t"))?;
    let mut line = Vec::new();
    for _ in 0..load.events {
        line.clear();
        json::event::write(mix.next(), &mut line);
        let event: Value = serde_json::from_slice(&line)?;
        let fields = COLUMNS.map(|column| match event.pointer(&format!("/{column}")) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        writeln!(out, "{}", fields.join("\t"))?;
    }
    Ok(out.flush()?)
}

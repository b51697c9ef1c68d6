//! `tracer replay`: what `tracer watch` showed, from files.

mod chosen;
mod fields;
mod pace;
pub(crate) mod parse;

use std::io;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    capture::files::{Captures, time},
    cli::{Format, Replay},
    exit::{Failed, is_broken_pipe},
    output::{Output, say},
};
use chosen::Chosen;
use pace::Pace;
pub(crate) use pace::Speed;
use parse::{Parsed, Unread, parse};

/// Shows the records of files; returns the exit code.
///
/// # Errors
/// A file cannot be read or is no capture. Damage in a capture is no error,
/// and a closed standard output is none: nobody reads on.
pub(crate) fn run(arguments: &Replay) -> Result<u8, Failed> {
    let mut captures = Captures::open(&arguments.files)?;
    let mut player = Player::new(arguments);
    if let Some(from) = arguments.from {
        player.begin = captures.moment(from)?;
    }
    let played = player.play(&mut captures);
    match played {
        Err(error) if is_broken_pipe(&error) => return Ok(0),
        _ => {}
    }
    for note in captures.notes() {
        say(&format!("tracer: {note}"));
    }
    played?;
    player.tell_unread();
    Ok(0)
}

struct Player {
    output: Output,
    format: Format,
    /// What is older is skipped.
    begin: Option<Timestamp>,
    chosen: Chosen,
    pace: Option<Pace>,
    /// When and since which boot the run began whose `startup` was shown: every
    /// file of a rotated set has it.
    run: Option<[Value; 2]>,
    unknown: u64,
    misshapen: u64,
}

impl Player {
    fn new(arguments: &Replay) -> Self {
        Self {
            output: Output::new(Some(arguments.format), None),
            format: arguments.format,
            begin: None,
            chosen: Chosen::new(arguments.filter.clone()),
            pace: arguments.speed.map(Pace::new),
            run: None,
            unknown: 0,
            misshapen: 0,
        }
    }

    fn play(&mut self, captures: &mut Captures) -> Result<()> {
        if let Some(begin) = self.begin {
            captures.skip_to(begin);
        }
        while let Some(record) = captures.next_record()? {
            let at = time(&record);
            if self.is_before(at) && record["type"] != "startup" {
                continue;
            }
            if !self.chosen.has(&record) {
                continue;
            }
            self.wait(&record, at)?;
            match self.format {
                Format::Json => self.output.line(captures.line())?,
                Format::Text => self.show(&record)?,
            }
        }
        Ok(self.output.flush()?)
    }

    /// Whether a record is older than what was asked for.
    fn is_before(&self, at: Option<Timestamp>) -> bool {
        matches!((self.begin, at), (Some(begin), Some(at)) if at < begin)
    }

    /// Waits as long as it was between this record and the one before.
    fn wait(&mut self, record: &Value, at: Option<Timestamp>) -> io::Result<()> {
        let (Some(pace), Some(at)) = (&mut self.pace, at) else {
            return Ok(());
        };
        if record["type"] == "startup" {
            return Ok(());
        }
        let pause = pace.until(at);
        if !pause.is_zero() {
            self.output.flush()?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn show(&mut self, record: &Value) -> Result<()> {
        match parse(record) {
            Ok(Parsed::Startup(startup)) => {
                let run = ["time", "boot_id"].map(|name| record[name].clone());
                if self.run.as_ref() != Some(&run) {
                    self.output.startup(&startup, false)?;
                    self.run = Some(run);
                }
            }
            Ok(parsed) => self.output.record(parsed.record())?,
            Err(Unread::UnknownType) => self.unknown += 1,
            Err(Unread::Misshapen) => self.misshapen += 1,
        }
        Ok(())
    }

    fn tell_unread(&self) {
        if self.unknown > 0 {
            say(&format!(
                "tracer: records of kinds that this version does not know: {}; --format json shows them",
                self.unknown
            ));
        }
        if self.misshapen > 0 {
            say(&format!(
                "tracer: records that lack fields or have wrong ones: {}; --format json shows them",
                self.misshapen
            ));
        }
    }
}

//! `tracer replay`: what `tracer watch` showed, from files.

mod chosen;
mod fields;
mod pace;
pub(crate) mod parse;
mod viewed;

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    capture::files::{Captures, time},
    cli::{Format, Replay},
    exit::{Failed, is_broken_pipe},
    output::{Output, sanitize::printable, say},
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
    let is_viewed = viewed::is_wanted(arguments);
    let mut player = Player::new(arguments, is_viewed);
    if let Some(from) = arguments.from {
        player.begin = captures.moment(from)?;
        player
            .begin
            .into_iter()
            .for_each(|begin| captures.skip_to(begin));
    }
    let played = match is_viewed {
        true => viewed::play(&mut player, &mut captures),
        false => player.play(&mut captures),
    };
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
    /// All records were read.
    is_over: bool,
}

impl Player {
    fn new(arguments: &Replay, is_viewed: bool) -> Self {
        Self {
            output: match is_viewed {
                true => Output::full_screen(viewed::scene(), None),
                false => Output::new(Some(arguments.format), None),
            },
            format: arguments.format,
            begin: None,
            chosen: Chosen::new(arguments.filter.clone()),
            pace: arguments.speed.map(Pace::new),
            run: None,
            unknown: 0,
            misshapen: 0,
            is_over: false,
        }
    }

    fn play(&mut self, captures: &mut Captures) -> Result<()> {
        while let Some(record) = self.next(captures)? {
            let pause = self.pause(&record);
            if !pause.is_zero() {
                self.output.flush()?;
                std::thread::sleep(pause);
            }
            match self.format {
                Format::Json => self.output.line(captures.line())?,
                Format::Text => self.show(&record)?,
            }
        }
        Ok(self.output.flush()?)
    }

    /// The next record that was asked for.
    fn next(&mut self, captures: &mut Captures) -> Result<Option<Value>> {
        while let Some(record) = captures.next_record()? {
            let is_old = self.is_before(time(&record)) && record["type"] != "startup";
            if !is_old && self.chosen.has(&record) {
                return Ok(Some(record));
            }
        }
        self.is_over = true;
        Ok(None)
    }

    /// Whether a record is older than what was asked for.
    fn is_before(&self, at: Option<Timestamp>) -> bool {
        matches!((self.begin, at), (Some(begin), Some(at)) if at < begin)
    }

    /// As long as it was between this record and the one before.
    fn pause(&mut self, record: &Value) -> Duration {
        match (&mut self.pace, time(record)) {
            (Some(pace), Some(at)) if record["type"] != "startup" => pace.until(at),
            _ => Duration::ZERO,
        }
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
            Ok(Parsed::Totals(mut totals)) => {
                self.chosen.narrow(&mut totals);
                self.output.record(Parsed::Totals(totals).record())?;
            }
            Ok(parsed) => self.output.record(parsed.record())?,
            Err(Unread::UnknownType) => self.unknown += 1,
            Err(Unread::Misshapen) => self.misshapen += 1,
        }
        Ok(())
    }

    fn tell_unread(&self) {
        if let Some(filter) = self.chosen.unmet().filter(|_| self.is_over) {
            say(&format!(
                "tracer: no failure in these files passes the filter ({})",
                printable(filter.as_bytes())
            ));
        }
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

//! What is read of a command line, for fuzzing.

use std::{cell::RefCell, ffi::OsString, os::unix::ffi::OsStringExt};

use clap::CommandFactory;

use crate::{
    capture::rotate,
    cli::{self, Cli, Ended, Verb},
    filter::{Cidr, Filter},
    metrics,
    when::{self, When},
};

/// What a value is of.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// `--duration` and others.
    Duration,
    /// `--speed`
    Speed,
    /// `-C`
    Size,
    /// `--dst`
    Network,
    /// `--from` and others.
    Moment,
    /// `--metrics`
    Address,
}

/// All of them.
pub const VALUES: [Value; 6] = [
    Value::Duration,
    Value::Speed,
    Value::Size,
    Value::Network,
    Value::Moment,
    Value::Address,
];

/// A value as it was understood, in words that mean the same.
///
/// # Errors
/// What is wrong with it.
pub fn understood(value: Value, text: &str) -> Result<String, String> {
    match value {
        Value::Duration => cli::duration(text).map(|time| format!("{}ms", time.as_millis())),
        Value::Speed => cli::speed(text).map(|speed| speed.0.to_string()),
        Value::Size => rotate::size(text).map(|bytes| match bytes % 1000 {
            0 => format!("{}kB", bytes / 1000),
            _ => format!("{}KiB", bytes / 1024),
        }),
        Value::Network => Cidr::parse(text).map(|network| network.to_string()),
        Value::Moment => when::parse(text).map(|when| match when {
            When::Moment(moment) => moment.to_string(),
            When::TimeOfDay(time) => time.to_string(),
        }),
        Value::Address => metrics::address(text).map(|address| address.to_string()),
    }
}

thread_local! {
    /// To make it takes longer than all the rest.
    static DEFINITION: RefCell<clap::Command> = RefCell::new(Cli::command());
}

/// What becomes of a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// It is run; these failures are asked for.
    Filter(Vec<String>),
    /// It is run.
    Other,
    /// Help, or a version.
    Answered,
    /// What is wrong with it.
    Wrong(String),
}

/// Reads the words after `tracer`. Nothing is run.
#[must_use]
pub fn line(words: &[&[u8]]) -> Line {
    let words = words.iter().map(|word| OsString::from_vec(word.to_vec()));
    let words = [OsString::from("tracer")].into_iter().chain(words);
    let parsed = DEFINITION.with_borrow_mut(|definition| cli::parse_with(definition, words));
    match parsed {
        Ok(cli) => filter(&cli).map_or(Line::Other, |filter| Line::Filter(filter.words())),
        Err(Ended::Answered(_)) => Line::Answered,
        Err(Ended::Wrong(why)) => Line::Wrong(why),
    }
}

fn filter(cli: &Cli) -> Option<&Filter> {
    match &cli.verb {
        Verb::Watch(watch) => Some(&watch.run.filter),
        Verb::Record(record) => Some(&record.run.filter),
        Verb::Replay(replay) => Some(&replay.filter),
        Verb::Report(report) => Some(&report.filter),
        _ => None,
    }
}

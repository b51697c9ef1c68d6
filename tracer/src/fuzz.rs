//! What the targets in fuzz/ try: everything that reads bytes of strangers.
//!
//! Only with the feature `fuzz`, and for nobody else.

pub mod btf;
pub mod place;
pub mod proc_files;
pub mod terminal;
pub mod words;

use std::{io, net::SocketAddr};

use crate::{
    capture::read::{MAX_LINE, Reader},
    decode, output, replay, report,
};

/// The longest line that is read.
pub const LONGEST_LINE: usize = MAX_LINE;

/// What a capture holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its lines, without their ends.
    pub lines: Vec<Vec<u8>>,
    /// Bytes at its end that are told to be missing.
    pub torn_bytes: u64,
    /// Bytes before that are told to be skipped.
    pub skipped_bytes: u64,
    /// All that is told of its damage.
    pub damage: String,
}

/// Reads a capture to its end.
///
/// # Errors
/// What `input` gives.
pub fn read(input: impl io::Read) -> io::Result<Capture> {
    let mut reader = Reader::new(input);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line.to_vec());
    }
    let damage = reader.damage();
    Ok(Capture {
        lines,
        torn_bytes: damage.torn_bytes,
        skipped_bytes: damage.skipped_bytes,
        damage: damage.sentence(),
    })
}

/// What `tracer replay` shows of a line; `None`: nothing.
#[must_use]
pub fn shown(line: &[u8]) -> Option<String> {
    let record = serde_json::from_slice(line).ok()?;
    replay::parse::parse(&record)
        .ok()
        .map(|parsed| output::fuzz::text(parsed.record()))
}

/// What `tracer report` tells of lines.
#[derive(Debug)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For browsers.
    pub html: String,
    /// One JSON object.
    pub json: String,
    /// The same, if no line is read the fast way.
    pub json_slow: String,
}

/// Reports lines.
#[must_use]
pub fn report(lines: &[&[u8]]) -> Report {
    let [text, json, html] = report::fuzz::tell(lines, true);
    let [_, json_slow, _] = report::fuzz::tell(lines, false);
    Report {
        text,
        html,
        json,
        json_slow,
    }
}

/// What is read of an event of the kernel side.
#[derive(Debug)]
pub struct Decoded {
    /// Local address.
    pub local: Option<SocketAddr>,
    /// Remote address.
    pub remote: Option<SocketAddr>,
    /// Names of caller, listener and acceptor, as a terminal may have them.
    pub names: [String; 3],
}

/// Decodes one record of the ring buffer; `None`: it is none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Decoded> {
    let event = decode::decode(bytes).ok()?;
    let tasks = [&event.raw.caller, &event.raw.listener, &event.raw.acceptor];
    Some(Decoded {
        local: event.local,
        remote: event.remote,
        names: tasks.map(|task| output::sanitize::printable(decode::comm(task))),
    })
}

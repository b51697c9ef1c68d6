//! How is a line read fast? Nearly all lines are events as tracer writes them:
//! those are read without building a tree of values. Whatever is not exactly
//! so is read as any other record.

use serde::Deserialize;
use serde_json::Value;

use super::record::{self, Event, Who};
use crate::capture::read::object;

/// How tracer begins an event.
const EVENT: &[u8] = br#"{"v":1,"type":"event","#;

/// What a line holds.
#[derive(Debug)]
pub(super) enum Line {
    Event(Box<Event>),
    Other(Value),
}

/// Reads a line; `None`: it is no record.
pub(super) fn parse(line: &[u8]) -> Option<Line> {
    match event(line) {
        Some(event) => Some(Line::Event(Box::new(event))),
        None => whole(line),
    }
}

/// The same with all that is in it; slowly.
pub(super) fn whole(line: &[u8]) -> Option<Line> {
    object(line).map(Line::Other)
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    v: u64,
    r#type: &'a str,
    time: &'a str,
    kind: &'a str,
    cause: &'a str,
    count: u64,
    process: Option<RawWho<'a>>,
    #[serde(borrow)]
    holders: Vec<RawWho<'a>>,
    netns: u64,
    local: Option<&'a str>,
    remote: Option<&'a str>,
    socket: Option<RawSocket>,
    census: Option<u64>,
}

#[derive(Deserialize)]
struct RawWho<'a> {
    pid: u32,
    comm: &'a str,
    kernel: bool,
}

#[derive(Deserialize)]
struct RawSocket {
    inode: u64,
}

/// An event as tracer writes it, without a name that has to be unescaped.
fn event(line: &[u8]) -> Option<Event> {
    if !line.starts_with(EVENT) {
        return None;
    }
    let raw: RawEvent<'_> = serde_json::from_slice(line).ok()?;
    if raw.v != 1 || raw.r#type != "event" {
        return None;
    }
    Some(Event {
        time: raw.time.parse().ok()?,
        kind: record::kind_named(raw.kind)?,
        cause: record::cause_named(raw.cause)?,
        count: raw.count,
        process: raw.process.as_ref().map(who),
        holders: raw.holders.iter().take(record::LIST).map(who).collect(),
        netns: raw.netns,
        local: record::short(raw.local.unwrap_or_default()),
        remote: record::short(raw.remote.unwrap_or_default()),
        inode: raw.socket.map_or(0, |socket| socket.inode),
        census: raw.census,
    })
}

fn who(raw: &RawWho<'_>) -> Who {
    Who {
        pid: raw.pid,
        comm: record::short(raw.comm),
        kernel: raw.kernel,
    }
}

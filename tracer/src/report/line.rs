//! How is a line read fast? Nearly all lines are events as tracer writes them:
//! those are read from left to right, and what a report does not need is skipped.
//! Whatever is unusual in any way is read as any other record.

mod scan;
mod skipped;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::record::{self, Event, Who};
use crate::capture::read::object;
use scan::Scan;
pub(super) use skipped::Skipped;

/// What a line holds.
#[derive(Debug)]
pub(super) enum Line {
    Event(Event),
    Other(Value),
}

/// Reads a line; `None`: it is no record. Of events only what every report needs;
/// `skipped` is for the next line.
pub(super) fn parse(line: &[u8], skipped: &mut Skipped) -> Option<Line> {
    match event(line, skipped) {
        Some(event) => Some(Line::Event(event)),
        None => whole(line),
    }
}

/// The same with all that is in it, slowly: for who asks for more than an event keeps.
pub(super) fn whole(line: &[u8]) -> Option<Line> {
    object(line).map(Line::Other)
}

/// The event in a line, if it is a usual one: then it is what
/// [`record::event`] makes of the line.
fn event(line: &[u8], skipped: &mut Skipped) -> Option<Event> {
    let mut line = Scan::new(line)?;
    let (mut is_known, mut is_event) = (false, false);
    let (mut time, mut kind, mut cause, mut count) = (None, None, None, 1);
    let mut process = None;
    let (mut local, mut remote) = (None, None);
    let (mut netns, mut inode, mut census) = (0, None, None);
    line.object(|line, name| {
        match name {
            "v" => is_known = is(line.number()?, 1)?,
            "type" => is_event = is(line.string()?, "event")?,
            "time" => time = line.string()?.parse().ok(),
            "kind" => kind = record::kind_named(line.string()?),
            "cause" => cause = record::cause_named(line.string()?),
            "count" => count = line.number()?,
            "process" => process = line.nullable(who)?,
            "holders" => line.skip_again(skipped)?,
            "netns" => netns = line.number()?,
            "local" => local = line.nullable(Scan::string)?,
            "remote" => remote = line.nullable(Scan::string)?,
            "socket" => inode = line.nullable(socket)?,
            "census" => census = line.nullable(Scan::number)?,
            _ => line.skip()?,
        }
        Some(())
    })?;
    let event = Event {
        time: time?,
        kind: kind?,
        cause: cause?,
        count,
        process,
        netns,
        local: record::short(local.unwrap_or_default()),
        remote: record::short(remote.unwrap_or_default()),
        inode: inode.unwrap_or(0),
        census,
    };
    (line.is_at_end() && is_known && is_event).then_some(event)
}

/// True, or else nothing: then it is no usual event.
fn is<T: PartialEq>(value: T, wanted: T) -> Option<bool> {
    (value == wanted).then_some(true)
}

fn who(line: &mut Scan<'_>) -> Option<Who> {
    let (mut pid, mut comm, mut kernel) = (None, "", false);
    line.object(|line, name| {
        match name {
            "pid" => pid = Some(u32::try_from(line.number()?).ok()?),
            "comm" => comm = line.string()?,
            "kernel" => kernel = line.boolean()?,
            _ => line.skip()?,
        }
        Some(())
    })?;
    Some(Who {
        pid: pid?,
        comm: record::short(comm),
        kernel,
    })
}

fn socket(line: &mut Scan<'_>) -> Option<u64> {
    let mut inode = 0;
    line.object(|line, name| {
        match name {
            "inode" => inode = line.number()?,
            _ => line.skip()?,
        }
        Some(())
    })?;
    Some(inode)
}

//! Who is behind the failures of a row, in a few words? Pure.

use super::rows::{Group, Row};
use crate::{
    explain::finding::{Census, QueueFinding},
    output::words,
};

/// Who, and what they have or do; both printable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) who: String,
    pub(super) what: String,
    /// The same where there is little room.
    pub(super) brief: String,
}

/// `None`: nobody is to blame, or it is not known yet.
pub(super) fn verdict(row: &Row) -> Option<Verdict> {
    let is_drop = row.newest().is_some_and(|failure| failure.kind.is_drop());
    let census = || row.census.as_deref().and_then(of_census);
    let queue = || row.queue.as_deref().map(of_queue);
    match is_drop {
        true => queue().or_else(census),
        false => census().or_else(queue),
    }
}

/// The holder of most ports.
fn of_census(census: &Census) -> Option<Verdict> {
    let all = census.parts.iter().flat_map(|part| {
        let holders = part.holders.iter();
        holders.map(move |holder| (part, holder))
    });
    // Of equals the first: parts are sorted.
    let (part, holder) = all.reduce(|most, next| match next.1.ports > most.1.ports {
        true => next,
        false => most,
    })?;
    let state = words::state(part.state);
    let what = match census.range.is_one_port() {
        true => state.to_owned(),
        false => format!("{} of {} {state}", holder.ports, census.range.usable),
    };
    Some(Verdict {
        who: words::owner(holder, ""),
        what,
        brief: match census.range.is_one_port() {
            true => state.to_owned(),
            false => format!("{} {state}", holder.ports),
        },
    })
}

fn of_queue(finding: &QueueFinding) -> Verdict {
    let who = finding.process.as_ref();
    Verdict {
        who: who.map_or("(unknown)".to_owned(), words::name),
        what: match (finding.accepts, finding.accepts_per_s) {
            (None, _) => "who accepts is not seen".to_owned(),
            (Some(0), _) => "accepts nothing".to_owned(),
            (_, Some(accepted)) => match finding.arrivals_per_s {
                Some(arrived) => format!("accepts {accepted:.1}/s of {arrived:.1}/s"),
                None => format!("accepts {accepted:.1}/s"),
            },
            _ => "accepts too slowly".to_owned(),
        },
        brief: match (finding.accepts, finding.accepts_per_s) {
            (None, _) => "not seen".to_owned(),
            (Some(0), _) => "accepts none".to_owned(),
            (_, Some(accepted)) => format!("takes {accepted:.1}/s"),
            _ => "is too slow".to_owned(),
        },
    }
}

/// What a filter looks at.
pub(super) fn searchable(row: &Row) -> String {
    let mut text = row.name.clone();
    let mut add = |more: &str| {
        text.push(' ');
        text.push_str(more);
    };
    row.causes.keys().for_each(|why| add(words::cause(*why)));
    row.kinds.keys().for_each(|kind| add(words::what(*kind)));
    if let Some(verdict) = verdict(row) {
        add(&verdict.who);
        add(&verdict.what);
    }
    if let Some(process) = &row.process {
        add(&words::name(process));
        let cmdline = process.cmdline.as_deref().unwrap_or_default();
        add(&words::printable(cmdline));
    }
    if let Some(failure) = row.newest() {
        add(&words::addresses(failure));
    }
    text
}

/// What a row's name is, as a heading.
pub(super) fn heading(group: Group) -> &'static str {
    match group {
        Group::Process => "PROCESS",
        Group::Listener => "LISTENER",
        Group::Destination => "DESTINATION",
        Group::Container => "CONTAINER",
    }
}

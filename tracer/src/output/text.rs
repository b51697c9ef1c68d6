//! Records as lines for people. Pure, but for finding out about colour.

pub(super) mod findings;
pub(super) mod snapshot;
mod startup;
#[cfg(test)]
mod tests;
mod totals;

use jiff::{Timestamp, tz::TimeZone};
use tracer_common::{Cause, Kind};

use super::sanitize::printable;
use crate::{
    capture::Gap,
    model::{Failure, Netns, Process, Queue},
    record::{Record, Totals},
};

pub(super) use startup::{startup, verified};
pub(super) use totals::totals;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// How lines look.
pub(super) struct Style {
    colour: bool,
    header: bool,
    zone: TimeZone,
}

impl Style {
    /// A header and perhaps colour for a terminal.
    pub(super) fn detect(is_terminal: bool) -> Self {
        Self {
            colour: has_colour(is_terminal),
            header: is_terminal,
            zone: TimeZone::system(),
        }
    }

    /// For whoever is not on this host.
    #[cfg(feature = "otlp")]
    pub(super) fn plain() -> Self {
        Self {
            colour: false,
            header: false,
            zone: TimeZone::UTC,
        }
    }

    pub(super) fn header(&self) -> String {
        if !self.header {
            return String::new();
        }
        let cells = [
            "TIME",
            "PROCESS",
            "WHAT",
            "CAUSE",
            "ADDRESSES",
            "QUEUE",
            "IN",
        ];
        let line = align(cells.map(str::to_owned)).concat();
        format!("{}\n", self.paint(DIM, line.trim_end()))
    }

    /// A record as lines, each with its end; nothing for some.
    pub(super) fn record(&self, record: Record<'_>) -> String {
        match record {
            Record::Startup(_) | Record::End(_) | Record::Verified(_) => String::new(),
            Record::Failure(failure) => self.failure(failure) + "\n",
            Record::Census(census) => self.census(census),
            Record::NoCensus(_, id, _, why) => {
                format!("   census {id} cannot be taken: {why}\n")
            }
            Record::Queue(finding) => self.queue(finding),
            Record::Totals(of) => totals(of),
            Record::Lost(_, count) => {
                format!("-- {count} failures were counted but not described: too many at once\n")
            }
            Record::Gap(_, gap) => self.gap(gap),
        }
    }

    pub(super) fn failure(&self, failure: &Failure) -> String {
        let [time, process, what, cause, addresses, queue, within] = align([
            clock(failure.time, &self.zone),
            process(failure),
            what(failure.kind).to_owned(),
            cause(failure.cause).to_owned(),
            addresses(failure),
            queues(failure),
            within(failure),
        ]);
        let severity = if failure.errno.is_some() { RED } else { YELLOW };
        let line = format!(
            "{}{}{}{}{addresses}{queue}{}",
            self.paint(DIM, &time),
            self.paint(BOLD, &process),
            self.paint(severity, &what),
            self.paint(severity, &cause),
            self.paint(DIM, &within),
        );
        line.trim_end().to_owned()
    }

    pub(super) fn gap(&self, gap: &Gap) -> String {
        format!(
            "-- {} records since {} could not be recorded: {}\n",
            gap.records,
            clock(gap.since, &self.zone),
            gap.reason
        )
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }
}

/// Colour for a terminal, unless `NO_COLOR` says otherwise (no-color.org: set
/// and not empty).
pub(super) fn has_colour(is_terminal: bool) -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !no_colour
}

/// Widths of all columns but the last.
const WIDTHS: [usize; 6] = [12, 22, 14, 20, 39, 9];

/// Pads every cell to its column; one that is too long pushes the rest on.
fn align(cells: [String; 7]) -> [String; 7] {
    let mut widths = WIDTHS.iter();
    cells.map(|cell| match widths.next() {
        Some(width) => format!("{cell:<width$}  "),
        None => cell,
    })
}

fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone())
        .strftime("%H:%M:%S%.3f")
        .to_string()
}

pub(crate) fn process(failure: &Failure) -> String {
    let Some((process, _)) = &failure.process else {
        return "(unknown)".to_owned();
    };
    let others = failure
        .holders
        .iter()
        .filter(|holder| holder.pid != process.pid)
        .count();
    match others {
        0 => name(process),
        others => format!("{} +{others}", name(process)),
    }
}

pub(crate) fn name(process: &Process) -> String {
    let comm = printable(&process.comm);
    match (process.kernel, process.pid) {
        (true, 0) => format!("[{comm}] (kernel)"),
        (true, pid) => format!("[{comm}][{pid}] (kernel)"),
        (false, pid) => format!("{comm}[{pid}]"),
    }
}

/// A process within a sentence: with its container, if it is in one.
fn placed(process: &Process) -> String {
    match place(process) {
        Some(place) => format!("{} {place}", name(process)),
        None => name(process),
    }
}

/// `@web`: a container, or a service whose name is not that of its program.
fn place(process: &Process) -> Option<String> {
    let place = process.place.as_deref()?;
    if let Some(container) = &place.container {
        return Some(format!("@{}", printable(container.label().as_bytes())));
    }
    let service = place.unit.as_deref()?.strip_suffix(".service")?;
    let comm = String::from_utf8_lossy(&process.comm);
    // `user@1000` says nothing.
    let says_more = !service.starts_with(&*comm) && !service.contains('@');
    says_more.then(|| format!("@{}", printable(service.as_bytes())))
}

/// Where it happened, as far as that has a name.
fn within(failure: &Failure) -> String {
    let place = failure.process.as_ref().and_then(|(who, _)| place(who));
    let is_told = |name: &&str| place.as_deref().is_some_and(|place| place[1..] == **name);
    let netns = failure.netns_name.as_deref().filter(|name| !is_told(name));
    let all: Vec<_> = place.iter().cloned().chain(netns.map(in_netns)).collect();
    all.join(" ")
}

/// A network namespace by its name.
fn in_netns(name: &str) -> String {
    format!("netns {}", printable(name.as_bytes()))
}

/// By its number, with its name if it has one.
fn numbered(netns: Netns, totals: &Totals) -> String {
    let inum = netns.inum;
    match totals.netns_names.get(&netns) {
        Some(name) => format!("netns {inum} ({})", printable(name.as_bytes())),
        None => format!("netns {inum}"),
    }
}

pub(crate) fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::ConnectFailed => "connect failed",
        Kind::BindFailed => "bind failed",
        Kind::ListenFailed => "listen failed",
        Kind::SynDropped => "SYN dropped",
        Kind::AckDropped => "ACK dropped",
        Kind::OverflowReset => "reset sent",
    }
}

pub(crate) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::PortsExhausted => "ports exhausted",
        Cause::AddressTaken => "4-tuple taken",
        Cause::NoSourceAddress => "no source address",
        Cause::RefusedByPolicy => "refused by policy",
        Cause::AddressNotLocal => "address not local",
        Cause::PortInUse => "port in use",
        Cause::AcceptQueueFull => "accept queue full",
        Cause::RequestQueueFull => "request queue full",
        Cause::BacklogReserve => "backlog reserve",
        Cause::Other => "other",
    }
}

/// `local → remote` for a call, `local ← remote` for a packet that came in.
pub(crate) fn addresses(failure: &Failure) -> String {
    let local = failure
        .local
        .map(|address| address.to_string())
        .unwrap_or_default();
    let arrow = if failure.accept_queue.is_some() {
        '←'
    } else {
        '→'
    };
    let local = match failure.remote {
        Some(remote) => format!("{local} {arrow} {remote}"),
        None => local,
    };
    match failure.since {
        Some(since) => {
            let seconds = failure.time.duration_since(since).as_secs_f64();
            let more = format!("×{} in {seconds:.1} s", thousands(failure.count));
            match local.is_empty() {
                true => more,
                false => format!("{local} {more}"),
            }
        }
        None => local,
    }
}

/// `1,204,332`
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The queue that the cause is about, as `ss` shows it: length/limit.
pub(crate) fn queues(failure: &Failure) -> String {
    let show = |queue: Option<Queue>| {
        queue
            .map(|queue| format!("{}/{}", queue.len, queue.max))
            .unwrap_or_default()
    };
    match failure.cause {
        Cause::RequestQueueFull | Cause::BacklogReserve => {
            format!("requests {}", show(failure.request_queue))
        }
        _ => show(failure.accept_queue),
    }
}

//! Records as lines for people. Pure, but for finding out about colour.

pub(super) mod findings;
pub(super) mod snapshot;

use std::{cmp::Reverse, fmt::Write};

use jiff::{Timestamp, tz::TimeZone};
use tracer_common::{Cause, Kind};

use super::sanitize::printable;
use crate::{
    capture::Gap,
    host::plan::Tier,
    model::{Failure, Process, Queue},
    probe::Served,
    reconcile::{Pair, Row},
    record::{Record, Totals},
    startup::Startup,
};

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
            Record::Startup(_) | Record::End(_) => String::new(),
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
fn numbered(netns: u32, totals: &Totals) -> String {
    match totals.netns_names.get(&netns) {
        Some(name) => format!("netns {netns} ({})", printable(name.as_bytes())),
        None => format!("netns {netns}"),
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
    match failure.remote {
        Some(remote) => format!("{local} {arrow} {remote}"),
        None => local,
    }
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

/// One line on the hooks in use, then one for each thing that cannot be had.
pub(super) fn startup(startup: &Startup, verbose: bool) -> String {
    let tiers = [
        (Tier::Function, "function hooks"),
        (Tier::Kprobe, "kprobes"),
        (Tier::Portable, "tracepoints and cgroup_skb"),
    ];
    let used: Vec<String> = tiers
        .iter()
        .filter_map(|(tier, label)| {
            let is_used = |served: &&Served| served.by.as_ref().is_some_and(|by| by.tier == *tier);
            let served: Vec<_> = startup.served.iter().filter(is_used).collect();
            let names: Vec<_> = served.iter().map(|served| served.purpose.name()).collect();
            match names.len() {
                0 => None,
                all if all == startup.served.len() => Some(format!("{label} for everything")),
                _ => Some(format!("{label} for {}", names.join(", "))),
            }
        })
        .collect();
    let mut text = format!(
        "tracer on {}: {}",
        printable(startup.kernel.as_bytes()),
        used.join("; ")
    );
    for degradation in &startup.degradations {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\ntracer: {degradation}");
    }
    if verbose {
        for served in &startup.served {
            let by = served.by.as_ref().map(|by| by.targets.join(" + "));
            let _ = write!(
                text,
                "\ntracer: {}: {}{}",
                served.purpose.name(),
                by.as_deref().unwrap_or("nothing"),
                served
                    .reason
                    .as_ref()
                    .map(|why| format!(" (not better: {why})"))
                    .unwrap_or_default()
            );
        }
    }
    text
}

pub(super) fn totals(totals: &Totals) -> String {
    let health = totals.health;
    let seconds = totals.time.duration_since(totals.since).as_secs_f64();
    let mut text = format!(
        "-- totals of {seconds:.1} s: {} counted, {} described",
        health.counted, health.described
    );
    if health.filtered > 0 {
        let _ = write!(
            text,
            ", {} left out by filters (totals are of the whole machine)",
            health.filtered
        );
    }
    if health.lost() > 0 {
        let _ = write!(text, ", {} lost (counted, too many at once)", health.lost());
    }
    if totals.malformed > 0 {
        let _ = write!(text, ", {} not understood", totals.malformed);
    }
    if health.unplaced > 0 {
        let _ = write!(text, ", {} in no namespace (table full)", health.unplaced);
    }
    if health.unjudged > 0 {
        let _ = write!(text, ", {} SYNs without a verdict", health.unjudged);
    }
    text.push('\n');
    let (counts, left_out) = foremost(&totals.counts, |(_, count)| Reverse(**count));
    for ((netns, kind, why), count) in counts {
        let label = format!("{}, {}", what(*kind), cause(*why));
        let place = numbered(*netns, totals);
        let _ = writeln!(text, "   {count:>9}  {label:<36} {place}");
    }
    if !left_out.is_empty() {
        let sum: u64 = left_out.iter().map(|(_, count)| **count).sum();
        let _ = writeln!(
            text,
            "   {sum:>9}  in {} more rows like these",
            left_out.len()
        );
    }
    let is_fine = |row: &Row| row.agrees() && row.unavailable.is_none();
    let (rows, left_out) = foremost(&totals.rows, |row| is_fine(row));
    for row in rows {
        text.push_str(&reconciled(row, totals));
    }
    if !left_out.is_empty() {
        let count = left_out.len();
        let fine = left_out.iter().filter(|row| is_fine(row)).count();
        let _ = writeln!(
            text,
            "   kernel's own, of {count} more network namespaces: {fine} agree",
        );
    }
    if totals.meanwhile > 0 && !totals.rows.iter().all(Row::agrees) {
        let _ = writeln!(
            text,
            "   {} drops were counted while the kernel's counters were being read",
            totals.meanwhile
        );
    }
    text
}

/// So many rows of each part of the totals are shown: a machine may have thousands of
/// network namespaces. As JSON all are.
const TOTALS: usize = 24;

/// All as they are; or if they are too many those with the smallest keys, and the rest.
fn foremost<T, K: Ord>(
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, Vec<T>) {
    let mut shown: Vec<T> = all.into_iter().collect();
    if shown.len() <= TOTALS {
        return (shown, Vec::new());
    }
    shown.sort_by_key(key);
    let rest = shown.split_off(TOTALS);
    (shown, rest)
}

fn reconciled(row: &Row, totals: &Totals) -> String {
    let counters = [
        ("ListenOverflows", row.listen_overflows),
        ("ListenDrops", row.listen_drops),
        ("TCPReqQFullDrop", row.req_qfull_drop),
    ];
    let shown: Vec<_> = counters
        .iter()
        .map(|(name, pair)| format!("{name} {}", beside(*pair)))
        .collect();
    let why = row
        .unavailable
        .as_ref()
        .map(|why| format!(" ({why})"))
        .unwrap_or_default();
    format!(
        "   kernel's own, {}: {}{why}\n",
        numbered(row.netns, totals),
        shown.join(", ")
    )
}

/// `24 = 24`, or `24, tracer 23, difference +1`.
fn beside(pair: Pair) -> String {
    match (pair.kernel, pair.difference()) {
        (Some(kernel), Some(0)) => format!("{kernel} = {}", pair.tracer),
        (Some(kernel), Some(difference)) => {
            format!(
                "{kernel}, tracer {}, difference {difference:+}",
                pair.tracer
            )
        }
        _ => format!("unknown, tracer {}", pair.tracer),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::Role;

    fn plain() -> Style {
        Style {
            colour: false,
            header: false,
            zone: TimeZone::UTC,
        }
    }

    fn process(pid: u32, comm: &[u8]) -> Process {
        Process {
            pid,
            comm: comm.to_vec(),
            ..Process::default()
        }
    }

    fn connect_failed() -> Failure {
        Failure {
            process: Some((process(42, b"checkout"), Role::Caller)),
            ..Failure::example()
        }
    }

    fn syn_dropped() -> Failure {
        Failure {
            kind: Kind::SynDropped,
            cause: Cause::AcceptQueueFull,
            errno: None,
            process: Some((process(7, b"api"), Role::Acceptor)),
            holders: vec![process(7, b"api"), process(8, b"api"), process(9, b"api")],
            local: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 443))),
            remote: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 50000))),
            accept_queue: Some(Queue { len: 129, max: 128 }),
            request_queue: Some(Queue { len: 3, max: 128 }),
            ..connect_failed()
        }
    }

    #[test]
    fn a_call_points_to_its_destination() {
        assert_eq!(
            plain().failure(&connect_failed()),
            "00:00:00.000  checkout[42]            connect failed  ports exhausted       10.0.0.1:0 → 10.0.0.2:5432"
        );
    }

    #[test]
    fn a_drop_shows_holders_and_queue() {
        assert_eq!(
            plain().failure(&syn_dropped()),
            "00:00:00.000  api[7] +2               SYN dropped     accept queue full     [::1]:443 ← [::1]:50000                  129/128"
        );
        let requests = Failure {
            cause: Cause::RequestQueueFull,
            ..syn_dropped()
        };
        assert!(plain().failure(&requests).ends_with("requests 3/128"));
    }

    #[test]
    fn who_it_is_when_nobody_is_known() {
        let unknown = Failure {
            process: None,
            ..connect_failed()
        };
        assert!(plain().failure(&unknown).contains("(unknown)"));
        let kernel = (Process::kernel(b"kworker/0:1"), Role::Caller);
        let kernel = Failure {
            process: Some(kernel),
            ..connect_failed()
        };
        assert!(plain().failure(&kernel).contains("[kworker/0:1] (kernel)"));
    }

    #[test]
    fn where_it_happened() {
        use crate::model::{Container, Place};
        let place = |container: Option<&str>, unit: Option<&str>| Place {
            container: container.map(|id| Container {
                id: id.to_owned(),
                runtime: None,
                name: None,
            }),
            unit: unit.map(str::to_owned),
            ..Place::default()
        };
        let ends = |place: Place, netns: Option<&str>| {
            let process = Process {
                place: Some(place.into()),
                ..process(7, b"python3")
            };
            let failure = Failure {
                process: Some((process, Role::Acceptor)),
                netns_name: netns.map(Into::into),
                ..syn_dropped()
            };
            let line = plain().failure(&failure);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            let (_, end) = line.split_once("129/128").unwrap_or_default();
            end.trim_start().to_owned()
        };
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            ends(place(Some(id), Some("a.service")), None),
            "@0123456789ab"
        );
        assert_eq!(
            ends(place(Some("größe\u{9b}"), None), None),
            "@größe\\u{9b}"
        );
        assert_eq!(ends(place(None, Some("billing.service")), None), "@billing");
        assert_eq!(ends(place(None, Some("python3-x.service")), None), "");
        assert_eq!(ends(place(None, Some("session-1.scope")), None), "");
        assert_eq!(ends(place(None, None), Some("blue")), "netns blue");
        assert_eq!(ends(place(Some("web"), None), Some("web")), "@web");
        assert_eq!(
            ends(place(Some("web"), None), Some("b\n")),
            r"@web netns b\x0a"
        );
    }

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        let hostile = process(1, b"\x1b]0;x\x07\xff");
        let failure = Failure {
            process: Some((hostile, Role::Caller)),
            ..connect_failed()
        };
        let line = plain().failure(&failure);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let coloured = Style {
            colour: true,
            ..plain()
        }
        .failure(&failure);
        assert!(
            !coloured.replace("\x1b[", "").chars().any(char::is_control),
            "{coloured:?}"
        );
    }

    #[test]
    fn colour_is_only_paint() {
        let coloured = Style {
            colour: true,
            ..plain()
        }
        .failure(&syn_dropped());
        let mut stripped = coloured;
        for code in [BOLD, RED, YELLOW, DIM, RESET] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain().failure(&syn_dropped()));
    }

    #[test]
    fn differences_are_shown() {
        let pair = |tracer, kernel| beside(Pair { tracer, kernel });
        assert_eq!(pair(5, Some(5)), "5 = 5");
        assert_eq!(pair(5, Some(7)), "7, tracer 5, difference +2");
        assert_eq!(pair(5, Some(4)), "4, tracer 5, difference -1");
        assert_eq!(pair(5, None), "unknown, tracer 5");
    }

    #[test]
    fn a_thousand_namespaces_are_no_thousand_lines() {
        let pair = |tracer, kernel| Pair {
            tracer,
            kernel: Some(kernel),
        };
        let row = |netns: u32| Row {
            netns,
            listen_overflows: pair(1, if netns == 999 { 2 } else { 1 }),
            listen_drops: pair(1, 1),
            req_qfull_drop: pair(0, 0),
            unavailable: None,
        };
        let count = |netns: u32| {
            let key = (netns, Kind::SynDropped, Cause::AcceptQueueFull);
            (key, u64::from(netns))
        };
        let totals = Totals {
            rows: (1..1000).map(row).collect(),
            counts: (1..1000).map(count).collect(),
            ..Totals::example()
        };
        let shown = super::totals(&totals);
        assert!(shown.lines().count() < 60, "{shown}");
        // What differs is shown, however late it comes.
        assert!(shown.contains("netns 999: ListenOverflows"), "{shown}");
        assert!(shown.contains("      999  "), "{shown}");
        assert!(shown.contains("in 975 more rows like these"), "{shown}");
        assert!(
            shown.contains("of 975 more network namespaces: 975 agree"),
            "{shown}"
        );
    }
}

//! Findings as lines for people. Pure.

use std::fmt::Write;

use super::{BOLD, DIM, Style, cause, in_netns, name, placed};
use crate::{
    explain::finding::{Advice, BoundUnused, Census, Holder, Owner, Part, PortState, QueueFinding},
    model::{Asked, accept_errno_name},
    output::sanitize::printable,
};

/// How many of a list are shown.
const SHOWN: usize = 4;

impl Style {
    pub(in crate::output) fn census(&self, census: &Census) -> String {
        let mut text = format!("   {}\n", self.paint(BOLD, &headline(census)));
        for part in &census.parts {
            let line = format!(
                "   {:>9}  {:<38} {}",
                part.ports,
                state(part.state),
                holders(part, census.range.is_one_port())
            );
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let rest = if census.unexplained > 0 {
            Some((census.unexplained, "unexplained"))
        } else {
            (census.free > 0 && !census.range.is_one_port()).then_some((census.free, "free now"))
        };
        if let Some((ports, what)) = rest {
            let _ = writeln!(text, "   {ports:>9}  {what}");
        }
        if let Some(how) = how_bound_were_found(census) {
            let _ = writeln!(text, "   {}", self.paint(DIM, &how));
        }
        text.push_str(&self.advice(&census.advice));
        text
    }

    pub(in crate::output) fn queue(&self, finding: &QueueFinding) -> String {
        let local = finding.local.map(|address| address.to_string());
        let headline = format!(
            "queue {}: {}{} of {}: {}",
            finding.id,
            local.as_deref().unwrap_or("a listener"),
            named(finding.netns_name.as_deref()),
            finding
                .process
                .as_ref()
                .map_or("(unknown)".to_owned(), placed),
            cause(finding.cause)
        );
        let mut text = format!("   {}\n", self.paint(BOLD, &headline));
        for line in queue_lines(finding) {
            let _ = writeln!(text, "      {line}");
        }
        text.push_str(&self.advice(&finding.advice));
        text
    }

    pub(super) fn advice(&self, advice: &[Advice]) -> String {
        advice
            .iter()
            .map(|advice| {
                let id = self.paint(DIM, &format!("[{}]", advice.id));
                format!("      → {} {id}\n", advice.text)
            })
            .collect()
    }
}

/// What a queue's drops add up to, a line each.
fn queue_lines(finding: &QueueFinding) -> Vec<String> {
    let seconds = finding.until.duration_since(finding.since).as_secs_f64();
    let mut lines = vec![format!(
        "{} of {}{} connections within {seconds:.1} s",
        drops(finding),
        if finding.connections_capped {
            "at least "
        } else {
            ""
        },
        finding.connections
    )];
    let queue = finding.accept_queue;
    let asked = finding.asked.map(|asked| {
        let Asked { backlog, somaxconn } = asked;
        format!(", listen() asked for {backlog}, somaxconn was {somaxconn}")
    });
    lines.push(format!(
        "accept queue {}/{}{}",
        queue.len,
        queue.max,
        asked.unwrap_or_default()
    ));
    lines.push(accepts(finding));
    lines.extend(disagreement(finding));
    if finding.holders.len() > 1 {
        let names: Vec<_> = finding.holders.iter().map(name).collect();
        lines.push(format!("held by {}", first_few(&names, names.len())));
    }
    if finding.ghost_count > 0 {
        lines.push(ghosts(finding));
    }
    lines
}

pub(crate) fn drops(finding: &QueueFinding) -> String {
    let kinds = [
        (finding.syn_drops, "SYNs dropped"),
        (finding.ack_drops, "final ACKs dropped"),
        (finding.resets, "resets sent"),
    ];
    let shown: Vec<_> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    shown.join(", ")
}

/// Where the kernel counted something else than tracer.
pub(crate) fn disagreement(finding: &QueueFinding) -> Option<String> {
    let (tracer, kernel) = finding.disagreement?;
    Some(format!(
        "the kernel counted {kernel} drops in this network namespace, tracer {tracer}: these numbers may be wrong by as much"
    ))
}

/// What became of the calls of `accept()`.
pub(crate) fn accepts(finding: &QueueFinding) -> String {
    let text = accepted(finding);
    match finding.accept_errno {
        Some(errno) => format!(
            "{text}; accept() failed {} times, last with {}",
            finding.accept_failures,
            accept_errno_name(errno)
        ),
        None => text,
    }
}

fn accepted(finding: &QueueFinding) -> String {
    match (
        finding.accepts,
        finding.accepts_per_s,
        finding.arrivals_per_s,
    ) {
        (None, ..) => "who accepts is not seen".to_owned(),
        (Some(0), ..) => "nothing accepted since the first drop".to_owned(),
        (Some(accepts), Some(accepted), Some(arrived)) => format!(
            "{accepts} accepted since the first drop; lately {accepted:.1} a second, while {arrived:.1} a second came"
        ),
        (Some(accepts), ..) => format!("{accepts} accepted since the first drop"),
    }
}

/// Clients that wait for nothing.
pub(crate) fn ghosts(finding: &QueueFinding) -> String {
    let shown: Vec<_> = finding
        .ghosts
        .iter()
        .map(|ghost| match &ghost.process {
            Some(process) => format!("{} {}", ghost.peer, placed(process)),
            None => ghost.peer.to_string(),
        })
        .collect();
    let all = usize::try_from(finding.ghost_count).unwrap_or(usize::MAX);
    format!(
        "{all} clients believe they are connected, and the server does not know them: {}",
        first_few(&shown, all)
    )
}

/// The first few of `all`, and how many more there are.
fn first_few(items: &[String], all: usize) -> String {
    let shown = &items[..items.len().min(SHOWN)];
    let mut text = shown.join(", ");
    let others = all.saturating_sub(shown.len());
    if others > 0 {
        let _ = write!(text, ", {others} more");
    }
    text
}

pub(crate) fn headline(census: &Census) -> String {
    let range = census.range;
    let mut text = format!("census {}: ", census.id);
    if range.is_one_port() {
        let _ = write!(text, "port {}", range.low);
    } else {
        let own = if range.is_own {
            ", the socket's own range"
        } else {
            ""
        };
        let _ = write!(
            text,
            "{} ports ({}-{}{own})",
            range.usable, range.low, range.high
        );
        if range.reserved > 0 {
            let _ = write!(text, " without {} reserved", range.reserved);
        }
    }
    if let Some(source) = census.source {
        let _ = write!(text, " of {source}");
    }
    if let Some(destination) = census.destination {
        let _ = write!(text, " to {destination}");
    }
    text.push_str(&named(census.netns_name.as_deref()));
    let _ = write!(text, ": {}", cause(census.cause));
    text
}

/// Where, if that has a name.
fn named(netns: Option<&str>) -> String {
    netns.map_or_else(String::new, |name| format!(" in {}", in_netns(name)))
}

fn state(state: PortState) -> &'static str {
    match state {
        PortState::Established => "connected",
        PortState::CloseWait => "CLOSE_WAIT (closed by the peer only)",
        PortState::SynSent => "connecting (SYN_SENT)",
        PortState::SynRecv => "being accepted (SYN_RECV)",
        PortState::Closing => "being closed (FIN_WAIT and the like)",
        PortState::TimeWait => "TIME_WAIT",
        PortState::Listening => "listening",
        PortState::BoundUnused => "bound, not used",
        PortState::BoundElsewhere => "bound, connected elsewhere",
    }
}

pub(crate) fn holders(part: &Part, is_one_port: bool) -> String {
    let verb = match part.state {
        PortState::TimeWait | PortState::Closing => "closed by ",
        _ => "",
    };
    let items: Vec<String> = part
        .holders
        .iter()
        .map(|holder| {
            let count = match (is_one_port, part.holders.len()) {
                (true, _) if holder.sockets > 1 => format!(" {} sockets", holder.sockets),
                (false, 2..) => format!(" {}", holder.ports),
                _ => String::new(),
            };
            format!("{}{count}", owner(holder, verb))
        })
        .collect();
    first_few(&items, items.len())
}

pub(crate) fn owner(holder: &Holder, verb: &str) -> String {
    match &holder.owner {
        Owner::Processes(program) => match (&program.named[..], program.count) {
            ([(process, _), ..], 1) => format!("{verb}{}", placed(process)),
            (_, count) => format!("{verb}{} ({count} processes)", printable(&program.comm)),
        },
        Owner::Kernel => format!("{verb}the kernel"),
        Owner::NotAccepted => "not accepted yet".to_owned(),
        Owner::BeforeTracer => "closed before tracer started".to_owned(),
        Owner::Unknown(why) => format!("unknown ({why})"),
    }
}

pub(crate) fn how_bound_were_found(census: &Census) -> Option<String> {
    let has_some = census
        .parts
        .iter()
        .any(|part| part.state == PortState::BoundUnused);
    match &census.bound_unused {
        BoundUnused::SockDiag => None,
        BoundUnused::PidfdGetfd if has_some => Some(
            "bound, unused sockets: this kernel does not list them; found by asking the sockets of every process"
                .to_owned(),
        ),
        BoundUnused::PidfdGetfd => None,
        BoundUnused::Incomplete(why) => {
            Some(format!("bound, unused sockets may be missing: {why}"))
        }
    }
}

//! What to do when a listener drops connections?

use tracer_common::Cause;

use super::{
    Piece, Rule,
    wording::{count, process, rate},
};
use crate::{explain::finding::QueueFinding, model::accept_errno_name};

/// In this order.
pub(super) const RULES: &[Rule<QueueFinding>] = &[
    rule("syncookies", syncookies),
    rule("max-syn-backlog", max_syn_backlog),
    rule("accept-fails", accept_fails),
    rule("accept-faster", accept_faster),
    rule("listen-again", listen_again),
    rule("raise-somaxconn", raise_somaxconn),
    rule("raise-backlog", raise_backlog),
    rule("client-timeout", client_timeout),
    rule("abort-on-overflow", abort_on_overflow),
    rule("no-abort-on-overflow", no_abort_on_overflow),
];

const fn rule(id: &'static str, says: fn(&QueueFinding) -> Option<Piece>) -> Rule<QueueFinding> {
    Rule { id, says }
}

/// A queue as long as this that is full is not for want of length.
const LONG: u32 = 1024;

fn server(finding: &QueueFinding) -> String {
    match (&finding.process, finding.local) {
        (Some(server), _) if !server.kernel => process(server),
        (_, Some(local)) => format!("the server of {local}"),
        (_, None) => "the server".to_owned(),
    }
}

fn is_accept_queue(finding: &QueueFinding) -> bool {
    finding.cause == Cause::AcceptQueueFull
}

/// How fast connections are accepted, and how fast they come.
enum Pace {
    /// Not at all.
    Stopped {
        came: f64,
    },
    /// Slower than they come.
    Slow {
        accepted: f64,
        came: f64,
    },
    /// As fast as they come, on the whole.
    Keeps {
        accepted: f64,
        came: f64,
    },
    Unknown,
}

fn pace(finding: &QueueFinding) -> Pace {
    match (finding.accepts_per_s, finding.arrivals_per_s) {
        (Some(accepted), Some(came)) if accepted <= 0.0 => Pace::Stopped { came },
        // Who is dropped and tries again is counted twice among those that come.
        (Some(accepted), Some(came)) if accepted >= came * 0.9 => Pace::Keeps { accepted, came },
        (Some(accepted), Some(came)) => Pace::Slow { accepted, came },
        _ => Pace::Unknown,
    }
}

/// The limit of the queue that was full. Both come from the backlog.
fn limit(finding: &QueueFinding) -> Option<u32> {
    match finding.cause {
        Cause::AcceptQueueFull => Some(finding.accept_queue.max),
        Cause::RequestQueueFull => Some(finding.request_queue.max),
        _ => None,
    }
}

/// Whether a longer queue would help: it is short, or only bursts do not fit.
fn is_too_short(finding: &QueueFinding) -> bool {
    if finding.accept_errno.is_some() {
        // However long it is, nobody takes what is in it.
        return false;
    }
    let is_burst = is_accept_queue(finding) && matches!(pace(finding), Pace::Keeps { .. });
    is_burst || limit(finding).is_some_and(|limit| limit < LONG)
}

/// What `listen()` was called with, and in words; negative is the largest.
fn backlog(asked: i32) -> (u32, String) {
    let words = match asked {
        ..0 => "the longest queue there is".to_owned(),
        _ => asked.to_string(),
    };
    (asked.cast_unsigned(), words)
}

/// In whom `accept()` fails: of several holders nothing tells which one it is.
fn failing(finding: &QueueFinding) -> String {
    const NAMED: usize = 3;
    // systemd holds the sockets that it passes on, and accepts from none of these.
    let holders: Vec<_> = finding.holders.iter().filter(|it| it.pid != 1).collect();
    if holders.len() < 2 {
        return server(finding);
    }
    let named: Vec<_> = holders.iter().take(NAMED).map(|it| process(it)).collect();
    let more = match holders.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "whichever process fails of those that hold the listener ({}{more})",
        named.join(", ")
    )
}

/// `accept()` itself fails: nothing else matters before that.
fn accept_fails(finding: &QueueFinding) -> Option<Piece> {
    let errno = finding.accept_errno.filter(|_| is_accept_queue(finding))?;
    let server = failing(finding);
    let times = count(finding.accept_failures, "time");
    let name = accept_errno_name(errno);
    let what = match i32::from(errno) {
        libc::EMFILE => format!(
            "Raise the limit of open files of {server} (LimitNOFILE= of its unit, ulimit -n), or have it close descriptors that it leaks: it has none left"
        ),
        libc::ENFILE => {
            "Raise fs.file-max, or find out who leaks open files: this host has none left"
                .to_owned()
        }
        libc::ENOBUFS | libc::ENOMEM => {
            format!("Give {server} more memory: the kernel had none for the socket")
        }
        _ => format!("Find out why accept() fails in {server}"),
    };
    Piece::general(format!("{what}. accept() failed {times} with {name}."))
}

fn accept_faster(finding: &QueueFinding) -> Option<Piece> {
    if !is_accept_queue(finding) || finding.accept_errno.is_some() {
        return None;
    }
    let server = server(finding);
    Piece::general(match pace(finding) {
        Pace::Stopped { came } => {
            // Those that try again are not new.
            let more = if came > 0.0 {
                format!(", while more came ({})", rate(came))
            } else {
                String::new()
            };
            format!(
                "Find out why {server} does not accept: {} waited for it, and it took none{more}.",
                count(finding.accept_queue.len, "connection")
            )
        }
        Pace::Slow { accepted, came } => format!(
            "Have {server} accept faster, with more threads or processes or less work between two calls of accept(): it takes {}, and {} come.",
            rate(accepted),
            rate(came)
        ),
        Pace::Unknown if finding.accept_queue.max >= LONG => format!(
            "Have {server} accept faster: even a queue for {} was full.",
            count(u64::from(finding.accept_queue.max) + 1, "connection")
        ),
        Pace::Keeps { .. } | Pace::Unknown => return None,
    })
}

fn listen_again(finding: &QueueFinding) -> Option<Piece> {
    let asked = finding.asked.filter(|_| is_too_short(finding))?;
    let now = finding.settings.somaxconn?;
    let (number, words) = backlog(asked.backlog);
    if number <= asked.somaxconn || now <= asked.somaxconn {
        return None;
    }
    Piece::general(format!(
        "Restart {}, or have it call listen() again: net.core.somaxconn is {now} now, but was {} when it asked for {words}.",
        server(finding),
        asked.somaxconn
    ))
}

fn raise_somaxconn(finding: &QueueFinding) -> Option<Piece> {
    let limit = limit(finding).filter(|_| is_too_short(finding))?;
    let now = finding.settings.somaxconn?;
    let server = server(finding);
    Piece::general(match finding.asked {
        Some(asked) => {
            let (number, words) = backlog(asked.backlog);
            if number <= asked.somaxconn || now > asked.somaxconn {
                return None;
            }
            format!(
                "Raise net.core.somaxconn (now {now}): {server} asked listen() for {words} and got {limit}. Then restart it, or have it call listen() again."
            )
        }
        None if limit == now => format!(
            "Raise net.core.somaxconn (now {now}) and the backlog that {server} passes to listen(): the lower of the two is the limit. Then restart it, or have it call listen() again."
        ),
        None => return None,
    })
}

fn raise_backlog(finding: &QueueFinding) -> Option<Piece> {
    let limit = limit(finding).filter(|_| is_too_short(finding))?;
    let now = finding.settings.somaxconn?;
    let is_the_limit = match finding.asked {
        Some(asked) => backlog(asked.backlog).0 <= asked.somaxconn,
        None => limit < now,
    };
    if !is_the_limit {
        return None;
    }
    let somaxconn = if now > limit {
        format!("up to net.core.somaxconn ({now})")
    } else {
        format!("and raise net.core.somaxconn (now {now}) with it")
    };
    let why = match (finding.cause, pace(finding)) {
        (Cause::RequestQueueFull, _) => {
            " That is the limit for open handshakes, too, with syncookies off.".to_owned()
        }
        (_, Pace::Keeps { accepted, came }) => format!(
            " It keeps up on the whole ({} of {}); bursts do not fit.",
            rate(accepted),
            rate(came)
        ),
        (_, Pace::Stopped { .. }) => " That only bridges a pause.".to_owned(),
        _ => String::new(),
    };
    let unless = match finding.asked {
        Some(_) => "",
        None => " If it does already, somaxconn was lower then: restart it.",
    };
    Piece::general(format!(
        "Have {} pass more than {limit} to listen(), {somaxconn}.{why}{unless}",
        server(finding)
    ))
}

fn has_no_syncookies(finding: &QueueFinding) -> bool {
    let is_about_them = matches!(
        finding.cause,
        Cause::RequestQueueFull | Cause::BacklogReserve
    );
    is_about_them && finding.settings.syncookies == Some(0)
}

fn syncookies(finding: &QueueFinding) -> Option<Piece> {
    if !has_no_syncookies(finding) {
        return None;
    }
    Piece::general(format!(
        "Set net.ipv4.tcp_syncookies to 1 (now 0): {} handshakes are open, and with syncookies further SYNs are answered all the same. Connections made so may lack window scaling and SACK.",
        finding.request_queue.len
    ))
}

fn max_syn_backlog(finding: &QueueFinding) -> Option<Piece> {
    let now = finding.settings.max_syn_backlog?;
    if !has_no_syncookies(finding) || finding.cause != Cause::BacklogReserve {
        return None;
    }
    // With this, the request queue is full before the last quarter is reached.
    let enough = (u64::from(finding.request_queue.max) + 1) * 4 / 3 + 1;
    if u64::from(now) >= enough {
        return None;
    }
    Piece::general(format!(
        "If syncookies must stay off, raise net.ipv4.tcp_max_syn_backlog (now {now}): its last quarter is kept for known peers. From {enough} on the backlog, {}, is what limits open handshakes.",
        finding.request_queue.max
    ))
}

fn client_timeout(finding: &QueueFinding) -> Option<Piece> {
    if finding.ghost_count == 0 {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for ghost in &finding.ghosts {
        let name = match &ghost.process {
            Some(client) => process(client),
            None => ghost.peer.to_string(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.truncate(2);
    let named = if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    };
    let believe = match finding.ghost_count {
        1 => "believes it is",
        _ => "believe they are",
    };
    Piece::general(format!(
        "Give clients a timeout for the first answer: {}{named} {believe} connected, and {} does not know it. Who waits for the server to speak first waits for ever.",
        count(finding.ghost_count, "client"),
        server(finding)
    ))
}

/// Not where only bursts do not fit: those clients get in when the server sends
/// its SYN-ACK again.
fn abort_on_overflow(finding: &QueueFinding) -> Option<Piece> {
    let is_hit = finding.ack_drops > 0 || finding.ghost_count > 0;
    let is_off = finding.settings.abort_on_overflow == Some(0);
    if !is_accept_queue(finding) || !is_hit || !is_off {
        return None;
    }
    if matches!(pace(finding), Pace::Keeps { .. }) {
        return None;
    }
    Piece::general(
        "Only if clients should rather fail than hang: set net.ipv4.tcp_abort_on_overflow to 1 (now 0). The price: every server of this network namespace then resets clients in short bursts, too, that now get in a little later."
            .to_owned(),
    )
}

fn no_abort_on_overflow(finding: &QueueFinding) -> Option<Piece> {
    if finding.resets == 0 || finding.settings.abort_on_overflow != Some(1) {
        return None;
    }
    Piece::general(format!(
        "If the queue is full only for moments, set net.ipv4.tcp_abort_on_overflow to 0 (now 1): the {} that got a reset would then be let in when {} sends its SYN-ACK again.",
        count(finding.resets, "handshake"),
        server(finding)
    ))
}

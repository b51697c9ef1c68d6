//! Findings for tests: ordinary ones, but for what a case is about.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use tracer_common::{Cause, Kind};

use crate::{
    explain::finding::{
        Asked, BoundUnused, Census, Ghost, Holder, Owner, Part, PortState, Program, QueueFinding,
        Range, Settings,
    },
    model::{Process, Queue},
};

pub(super) fn settings() -> Settings {
    Settings {
        port_range: Some((32768, 60999)),
        reserved_ports: Vec::new(),
        tw_reuse: Some(2),
        tw_reuse_delay: Some(1000),
        timestamps: Some(1),
        max_tw_buckets: Some(131_072),
        somaxconn: Some(4096),
        max_syn_backlog: Some(512),
        syncookies: Some(1),
        abort_on_overflow: Some(0),
        synack_retries: Some(5),
        has_own_range: true,
    }
}

pub(super) fn process(comm: &str, pid: u32) -> Process {
    Process {
        pid,
        comm: comm.into(),
        ..Process::default()
    }
}

pub(super) fn holder(comm: &str, ports: u32) -> Holder {
    let program = Program {
        comm: comm.into(),
        count: 1,
        named: vec![(process(comm, 7), ports)],
    };
    Holder {
        owner: Owner::Processes(program),
        ports,
        sockets: ports,
    }
}

pub(super) fn of(state: PortState, ports: u32) -> Part {
    Part {
        state,
        ports,
        sockets: ports,
        holders: vec![holder("curl", ports)],
    }
}

pub(super) fn nobodys(mut part: Part) -> Part {
    for holder in &mut part.holders {
        holder.owner = Owner::BeforeTracer;
    }
    part
}

pub(super) fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// A search by `connect()` that found nothing.
pub(super) fn connect(parts: Vec<Part>) -> Census {
    let taken: u32 = parts.iter().map(|part| part.ports).sum();
    Census {
        id: 1,
        time: Timestamp::UNIX_EPOCH,
        netns: 1,
        netns_cookie: 0,
        netns_name: None,
        kind: Kind::ConnectFailed,
        cause: Cause::PortsExhausted,
        protocol: 6,
        source: Some(ip(1)),
        destination: Some(SocketAddr::new(ip(2), 80)),
        range: Range {
            low: 32768,
            high: 60999,
            is_own: false,
            reserved: 0,
            usable: 28232,
        },
        parts,
        free: 28232_u32.saturating_sub(taken),
        unexplained: 0,
        bound_unused: BoundUnused::SockDiag,
        settings: settings(),
        sockets: 28232,
        took_ms: 9,
        advice: Vec::new(),
    }
}

/// The same by `bind()`.
pub(super) fn bind(parts: Vec<Part>) -> Census {
    Census {
        kind: Kind::BindFailed,
        destination: None,
        ..connect(parts)
    }
}

pub(super) fn one_port(kind: Kind, cause: Cause, port: u16, part: Part) -> Census {
    let is_connect = kind == Kind::ConnectFailed;
    let any = connect(vec![part]);
    Census {
        kind,
        cause,
        destination: any.destination.filter(|_| is_connect),
        range: Range {
            low: port,
            high: port,
            is_own: false,
            reserved: 0,
            usable: 1,
        },
        free: 0,
        ..any
    }
}

/// `bind()` to a port that is taken.
pub(super) fn taken(port: u16, part: Part) -> Census {
    one_port(Kind::BindFailed, Cause::PortInUse, port, part)
}

/// `connect()` of a socket whose port was fixed.
pub(super) fn clash(part: Part) -> Census {
    one_port(Kind::ConnectFailed, Cause::AddressTaken, 45000, part)
}

pub(super) fn udp(census: Census) -> Census {
    Census {
        protocol: 17,
        ..census
    }
}

pub(super) fn with(mut census: Census, change: impl FnOnce(&mut Census)) -> Census {
    change(&mut census);
    census
}

/// A listener with a backlog of 2 that nobody accepts from.
pub(super) fn queue(change: impl FnOnce(&mut QueueFinding)) -> QueueFinding {
    let mut finding = QueueFinding {
        id: 1,
        time: Timestamp::UNIX_EPOCH,
        netns: 1,
        netns_cookie: 0,
        netns_name: None,
        local: Some(SocketAddr::new(ip(1), 8080)),
        inode: 5,
        cause: Cause::AcceptQueueFull,
        process: Some(process("api", 2058)),
        holders: vec![process("api", 2058)],
        since: Timestamp::UNIX_EPOCH,
        until: Timestamp::UNIX_EPOCH,
        accept_queue: Queue { len: 3, max: 2 },
        request_queue: Queue { len: 0, max: 2 },
        asked: Some(Asked {
            backlog: 2,
            somaxconn: 4096,
        }),
        syn_drops: 9,
        ack_drops: 0,
        resets: 0,
        connections: 4,
        connections_capped: false,
        arrivals_per_s: Some(4.0),
        accepts_per_s: Some(0.0),
        accepts: Some(0),
        accept_failures: 0,
        accept_errno: None,
        disagreement: None,
        ghosts: Vec::new(),
        ghost_count: 0,
        settings: settings(),
        advice: Vec::new(),
    };
    change(&mut finding);
    finding
}

pub(super) fn limit(
    finding: &mut QueueFinding,
    max: u32,
    asked: Option<(i32, u32)>,
    somaxconn: u32,
) {
    finding.accept_queue = Queue { len: max + 1, max };
    finding.request_queue.max = max;
    finding.asked = asked.map(|(backlog, somaxconn)| Asked { backlog, somaxconn });
    finding.settings.somaxconn = Some(somaxconn);
}

pub(super) fn pace(finding: &mut QueueFinding, accepted: f64, came: f64) {
    finding.accepts_per_s = Some(accepted);
    finding.arrivals_per_s = Some(came);
}

pub(super) fn accept_fails(finding: &mut QueueFinding, errno: i32) {
    finding.accept_failures = 7;
    finding.accept_errno = u16::try_from(errno).ok();
}

pub(super) fn unknown_pace(finding: &mut QueueFinding) {
    finding.accepts_per_s = None;
    finding.arrivals_per_s = None;
}

pub(super) fn no_cookies(cause: Cause) -> QueueFinding {
    queue(|it| {
        it.cause = cause;
        it.accept_queue.len = 0;
        it.request_queue = Queue { len: 400, max: 511 };
        it.settings.syncookies = Some(0);
        it.asked = Some(Asked {
            backlog: 511,
            somaxconn: 4096,
        });
    })
}

pub(super) fn ghost(client: Option<Process>) -> impl FnOnce(&mut QueueFinding) {
    |it| {
        it.ghost_count = 1;
        it.ghosts.push(Ghost {
            peer: SocketAddr::new(ip(3), 50000),
            process: client,
        });
    }
}

//! What tracer found out about a failure, as everything downstream sees it.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use tracer_common::{Cause, Kind};

pub(crate) use crate::host::settings::Settings;
pub(crate) use crate::model::Asked;
use crate::model::{Netns, Process, Queue};

/// What a piece of advice says. `id` is stable and explained in docs/advice.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) id: Cow<'static, str>,
    /// One sentence or two, with the values in force on this host.
    pub(crate) text: String,
}

/// What the kernel side counted of a listener since tracer first saw it, at a drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// Connections that `accept()` returned. `None`: who accepts is not seen.
    pub(crate) returned: Option<u64>,
    /// Calls that failed.
    pub(crate) failed: u64,
    /// The errno of the last one; 0: there was none.
    pub(crate) errno: u16,
}

impl Census {
    /// The network namespace that it is about.
    pub(crate) fn life(&self) -> Netns {
        Netns {
            inum: self.netns,
            cookie: self.netns_cookie,
        }
    }
}

impl QueueFinding {
    /// The listener's network namespace.
    pub(crate) fn life(&self) -> Netns {
        Netns {
            inum: self.netns,
            cookie: self.netns_cookie,
        }
    }
}

/// Where the ports went: every port of the range has one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    /// Events refer to it by this number, unique within a run.
    pub(crate) id: u64,
    pub(crate) time: Timestamp,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    /// What no other namespace has; see [`Netns`].
    pub(crate) netns_cookie: u64,
    /// What people call it; `None`: nothing.
    pub(crate) netns_name: Option<Arc<str>>,
    /// The failure that asked for it.
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    /// IP protocol number: TCP or UDP.
    pub(crate) protocol: u16,
    /// The source address that ports were sought on; `None`: any.
    pub(crate) source: Option<IpAddr>,
    /// The destination; `None` for a `bind()` or a `listen()`.
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) range: Range,
    /// Never empty parts, most ports first.
    pub(crate) parts: Vec<Part>,
    /// Usable ports on which no socket was seen.
    pub(crate) free: u32,
    /// The same, where not every socket could be seen: see [`BoundUnused`].
    pub(crate) unexplained: u32,
    pub(crate) bound_unused: BoundUnused,
    pub(crate) settings: Settings,
    /// Sockets that were read.
    pub(crate) sockets: u64,
    pub(crate) took_ms: u64,
    pub(crate) advice: Vec<Advice>,
}

/// The ports that were searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First port. For a search for one port, that port.
    pub(crate) low: u16,
    /// Last port, included.
    pub(crate) high: u16,
    /// Narrowed by the socket's own `IP_LOCAL_PORT_RANGE`.
    pub(crate) is_own: bool,
    /// Ports of the range in `ip_local_reserved_ports`.
    pub(crate) reserved: u32,
    /// All others.
    pub(crate) usable: u32,
}

impl Range {
    /// Whether one fixed port was wanted, not any of a range.
    pub(crate) fn is_one_port(&self) -> bool {
        self.low == self.high
    }
}

/// What takes a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PortState {
    /// A connection; for a connect: to the same destination.
    Established,
    /// The peer has closed it, the process has not.
    CloseWait,
    /// `connect()` is under way.
    SynSent,
    /// A handshake with a listener is under way.
    SynRecv,
    /// `FIN_WAIT1`, `FIN_WAIT2`, `CLOSING`, `LAST_ACK`: being closed.
    Closing,
    TimeWait,
    Listening,
    /// Bound with `bind()`, neither connected nor listening.
    BoundUnused,
    /// Connected elsewhere, but bound with `bind()` before that, which takes
    /// the port from every destination. Inferred: the kernel found the port
    /// taken, and nothing towards this destination is on it.
    BoundElsewhere,
}

impl PortState {
    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::CloseWait => "close_wait",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::Closing => "closing",
            Self::TimeWait => "time_wait",
            Self::Listening => "listening",
            Self::BoundUnused => "bound_unused",
            Self::BoundElsewhere => "bound_elsewhere",
        }
    }
}

/// The ports in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) state: PortState,
    pub(crate) ports: u32,
    /// Sockets on these ports that block them; one port may have many.
    pub(crate) sockets: u32,
    /// Who; the ports of all add up to `ports`. Most ports first.
    pub(crate) holders: Vec<Holder>,
}

/// Who holds (or, for closed connections, has closed) the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) owner: Owner,
    pub(crate) ports: u32,
    pub(crate) sockets: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Processes of one name.
    Processes(Program),
    /// Sockets of the kernel's own.
    Kernel,
    /// In an accept queue: no process has it yet.
    NotAccepted,
    /// Closed before tracer started, so nobody saw by whom.
    BeforeTracer,
    /// Not known, and why.
    Unknown(Cow<'static, str>),
}

impl Owner {
    /// The name in records.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Processes(_) => "process",
            Self::Kernel => "kernel",
            Self::NotAccepted => "not_accepted",
            Self::BeforeTracer => "before_tracer",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Processes of one name, such as a thousand short-lived curls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) comm: Vec<u8>,
    /// How many processes.
    pub(crate) count: u32,
    /// Those with most ports, at most [`Program::NAMED`], with their ports.
    pub(crate) named: Vec<(Process, u32)>,
}

impl Program {
    /// How many processes of one name are listed.
    pub(crate) const NAMED: usize = 8;
}

/// How bound but unused sockets were looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BoundUnused {
    /// The kernel lists them (`BOUND_INACTIVE` of sock_diag).
    SockDiag,
    /// By asking a copy of each socket that no table lists.
    PidfdGetfd,
    /// Not at all, or not all of them, and why.
    Incomplete(String),
}

/// What a listener's queue drops add up to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueFinding {
    /// Events refer to it by this number, unique within a run.
    pub(crate) id: u64,
    pub(crate) time: Timestamp,
    pub(crate) netns: u32,
    /// What no other namespace has; see [`Netns`].
    pub(crate) netns_cookie: u64,
    /// What people call it; `None`: nothing.
    pub(crate) netns_name: Option<Arc<str>>,
    /// The address that the dropped packets were sent to; the wildcard if there
    /// were several.
    pub(crate) local: Option<SocketAddr>,
    /// Inode number of the listening socket; 0: not known.
    pub(crate) inode: u64,
    /// Of the last drop.
    pub(crate) cause: Cause,
    /// Who is responsible, and all that hold the listener.
    pub(crate) process: Option<Process>,
    pub(crate) holders: Vec<Process>,
    /// First and last drop of this episode: drops less than
    /// [`super::queue::CALM`] apart.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    /// At the last drop.
    pub(crate) accept_queue: Queue,
    pub(crate) request_queue: Queue,
    /// What `listen()` was called with and what somaxconn was then; `None`:
    /// before tracer started, or this kernel does not tell, or `listen()` was
    /// called again and the queue has another limit now.
    pub(crate) asked: Option<Asked>,
    /// Segments dropped in this episode.
    pub(crate) syn_drops: u64,
    pub(crate) ack_drops: u64,
    pub(crate) resets: u64,
    /// Distinct peers (address and port) that were hit, by SYN drops, ACK drops
    /// and resets together.
    pub(crate) connections: u64,
    /// There were more than could be remembered: at least `connections`.
    pub(crate) connections_capped: bool,
    /// Connections per second that came to the listener in the last seconds
    /// before the last drop: `accept()` calls as in `accepts`, plus what the
    /// accept queue grew by, plus peers that were dropped for the first time.
    /// A connection that was dropped at first and let in later counts when
    /// dropped and when accepted; so does, after peers had to be forgotten, one
    /// of them that tries again. `None`: as in `accepts_per_s`.
    pub(crate) arrivals_per_s: Option<f64>,
    /// `accept()` calls as in `accepts`, per second, over the same time. `None`:
    /// there were no two drops at least 200 ms apart, or who accepts is not seen.
    pub(crate) accepts_per_s: Option<f64>,
    /// Connections that `accept()` returned between the first and the last drop of this
    /// episode. `None`: who accepts is not seen.
    pub(crate) accepts: Option<u64>,
    /// `accept()` calls that failed meanwhile, for another reason than an empty queue or a
    /// signal, and the errno of the last one before the last drop.
    pub(crate) accept_failures: u64,
    pub(crate) accept_errno: Option<u16>,
    /// All drops in the network namespace, as tracer and as the kernel counted them, where
    /// these differ: then the drops of this listener may be wrong as well.
    pub(crate) disagreement: Option<(u64, u64)>,
    /// Clients whose final ACK was dropped and whom the server does not know:
    /// they believe they are connected.
    pub(crate) ghosts: Vec<Ghost>,
    /// All of them; `ghosts` lists the first few.
    pub(crate) ghost_count: u64,
    pub(crate) settings: Settings,
    pub(crate) advice: Vec<Advice>,
}

/// A client that believes it is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ghost {
    pub(crate) peer: SocketAddr,
    /// If it runs on this host, in a network namespace that tracer can look into.
    pub(crate) process: Option<Process>,
}

//! What plans are made of.

use tracer_common::{Cause, Kind};

/// Which hooks the user allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The best that attaches, purpose by purpose
    #[default]
    Auto,
    /// Function hooks only (fentry, fexit)
    Function,
    /// kprobes and kretprobes only
    Kprobe,
    /// Tracepoints and cgroup_skb only
    Portable,
}

impl Choice {
    /// Whether this tier may be used.
    pub(crate) fn allows(self, tier: Tier) -> bool {
        match self {
            Self::Auto => true,
            Self::Function => tier == Tier::Function,
            Self::Kprobe => tier == Tier::Kprobe,
            Self::Portable => tier == Tier::Portable,
        }
    }
}

/// A way of hooking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Function,
    Kprobe,
    Portable,
}

impl Tier {
    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Kprobe => "kprobe",
            Self::Portable => "portable",
        }
    }
}

/// How much a candidate sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// Every failure, once.
    Exact,
    /// All but what the note says.
    Near,
}

impl Exactness {
    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Near => "near",
        }
    }
}

/// What hooks are for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    Connect,
    ConnectV6Source,
    ConnectPolicy,
    Bind,
    Listen,
    SynDrop,
    AckDrop,
    OverflowReset,
    Listener,
    Acceptor,
    AcceptFailure,
    Closer,
}

impl Purpose {
    /// Every purpose.
    pub(crate) const ALL: [Self; 12] = [
        Self::Connect,
        Self::ConnectV6Source,
        Self::ConnectPolicy,
        Self::Bind,
        Self::Listen,
        Self::SynDrop,
        Self::AckDrop,
        Self::OverflowReset,
        Self::Listener,
        Self::Acceptor,
        Self::AcceptFailure,
        Self::Closer,
    ];

    /// Whose hooks see such a failure.
    pub(crate) fn of(kind: Kind, cause: Cause) -> Self {
        match (kind, cause) {
            (Kind::ConnectFailed, Cause::NoSourceAddress) => Self::ConnectV6Source,
            (Kind::ConnectFailed, Cause::RefusedByPolicy) => Self::ConnectPolicy,
            (Kind::ConnectFailed, _) => Self::Connect,
            (Kind::BindFailed, _) => Self::Bind,
            (Kind::ListenFailed, _) => Self::Listen,
            (Kind::SynDropped, _) => Self::SynDrop,
            (Kind::AckDropped, _) => Self::AckDrop,
            (Kind::OverflowReset, _) => Self::OverflowReset,
        }
    }

    /// The name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectV6Source => "connect_v6_source",
            Self::ConnectPolicy => "connect_policy",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::SynDrop => "syn_drop",
            Self::AckDrop => "ack_drop",
            Self::OverflowReset => "overflow_reset",
            Self::Listener => "listener",
            Self::Acceptor => "acceptor",
            Self::AcceptFailure => "accept_failure",
            Self::Closer => "closer",
        }
    }

    /// Whether its hooks count failures; the others tell about the processes behind them.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(
            self,
            Self::Listener | Self::Acceptor | Self::AcceptFailure | Self::Closer
        )
    }

    /// What is lost when nothing serves it.
    pub(crate) fn loss(self) -> &'static str {
        match self {
            Self::Connect => "failed connects are not seen",
            Self::ConnectV6Source => "connects without an IPv6 source address are not seen",
            Self::ConnectPolicy => "connects refused by a cgroup or LSM program are not seen",
            Self::Bind => "failed binds are not seen",
            Self::Listen => "failed listens are not seen",
            Self::SynDrop => "dropped SYNs are not seen",
            Self::AckDrop => "dropped final ACKs are not seen",
            Self::OverflowReset => "resets on overflow are not seen",
            Self::Listener => "who opened a listener is known only from /proc",
            Self::Acceptor => "who accepts from a listener is not known",
            Self::AcceptFailure => "why accept() fails is not known",
            Self::Closer => "who closed a connection, and so made a TIME_WAIT socket, is not known",
        }
    }
}

/// What a program attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Fentry(&'static str),
    Fexit(&'static str),
    Kprobe(&'static str),
    Kretprobe(&'static str),
    RawTracepoint(&'static str),
    Tracepoint(&'static str, &'static str),
    CgroupIngress,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fentry(name) => write!(f, "fentry {name}"),
            Self::Fexit(name) => write!(f, "fexit {name}"),
            Self::Kprobe(name) => write!(f, "kprobe {name}"),
            Self::Kretprobe(name) => write!(f, "kretprobe {name}"),
            Self::RawTracepoint(name) => write!(f, "raw_tp {name}"),
            Self::Tracepoint(_, name) => write!(f, "tp {name}"),
            Self::CgroupIngress => write!(f, "cgroup_skb ingress"),
        }
    }
}

/// One program and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Name in the eBPF object.
    pub(crate) program: &'static str,
    pub(crate) target: Target,
}

/// One way to serve a group of purposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) tier: Tier,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) exactness: Exactness,
    /// What this way cannot give, as a sentence.
    pub(crate) note: Option<&'static str>,
}

/// Purposes that are served together (by the same programs, or because mixing
/// tiers between them would report a failure twice), and the ways to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) purposes: Vec<Purpose>,
    /// Best first.
    pub(crate) candidates: Vec<Candidate>,
    /// Why better ways are not even tried.
    pub(crate) ruled_out: Vec<String>,
}

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    /// Members that this kernel lacks and without which nothing can be said.
    pub(crate) missing_members: Vec<&'static str>,
}

impl Plan {
    /// The same plan, but for what the user does not want.
    pub(crate) fn without(mut self, purpose: Purpose) -> Self {
        self.groups
            .retain(|group| !group.purposes.contains(&purpose));
        self
    }
}

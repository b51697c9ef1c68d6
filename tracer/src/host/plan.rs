//! Facts → which programs to try for which purpose, in which order, and what
//! each choice costs. Pure: it probes nothing, so it is tested as a table over
//! the types of real kernels.
//!
//! Whether a kernel lets a program load and attach is only known by trying, so
//! a plan lists [`Candidate`]s, best first; the first whose programs all
//! attach wins (`probe/`).

use super::facts::Facts;
use tracer_common::ABSENT;

/// Which hooks the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The best that attaches, purpose by purpose
    Auto,
    /// Function hooks only (fentry, fexit)
    Function,
    /// kprobes and kretprobes only
    Kprobe,
    /// Tracepoints and cgroup_skb only
    Portable,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Purpose {
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
        }
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

/// Makes a plan.
pub(crate) fn plan(facts: &Facts, choice: Choice) -> Plan {
    let planner = Planner { facts, choice };
    Plan {
        groups: vec![
            planner.listener(),
            planner.acceptor(),
            planner.connect(),
            planner.connect_outer(),
            planner.bind(),
            planner.listen(),
            planner.syn_drop(),
            planner.ack_drop(),
        ],
        missing_members: missing_members(facts),
    }
}

/// The members without which no event can be placed or described.
fn missing_members(facts: &Facts) -> Vec<&'static str> {
    let c = &facts.config;
    [
        ("sock_common.skc_num", c.sk_num),
        ("sock_common.skc_family", c.sk_family),
        ("sock_common.skc_net", c.sk_net),
        ("sock.sk_protocol", c.sk_protocol),
        ("sock.sk_ack_backlog", c.sk_ack_backlog),
        ("sock.sk_max_ack_backlog", c.sk_max_ack_backlog),
        ("net.ns.inum", c.net_inum),
    ]
    .into_iter()
    .filter_map(|(name, offset)| (offset == ABSENT).then_some(name))
    .collect()
}

struct Planner<'a> {
    facts: &'a Facts,
    choice: Choice,
}

/// Collects the candidates of one group.
struct Builder<'a> {
    planner: &'a Planner<'a>,
    group: Group,
}

impl Builder<'_> {
    /// Offers a candidate if the choice allows its tier and every function it
    /// hooks exists with the argument count its program was written for.
    fn offer(
        mut self,
        tier: Tier,
        needs: &[(&'static str, usize)],
        attachments: &[Attachment],
        exactness: Exactness,
        note: Option<&'static str>,
    ) -> Self {
        let allowed = match self.planner.choice {
            Choice::Auto => true,
            Choice::Function => tier == Tier::Function,
            Choice::Kprobe => tier == Tier::Kprobe,
            Choice::Portable => tier == Tier::Portable,
        };
        if !allowed {
            return self;
        }
        for (function, arguments) in needs {
            match self.planner.facts.functions.get(function) {
                Some(found) if *arguments == ANY || found == arguments => {}
                Some(found) => {
                    self.group.ruled_out.push(format!(
                        "{}: {function} takes {found} arguments, not {arguments}",
                        tier.name()
                    ));
                    return self;
                }
                None => {
                    self.group.ruled_out.push(format!(
                        "{}: this kernel's BTF has no {function}",
                        tier.name()
                    ));
                    return self;
                }
            }
        }
        let attachments = attachments.to_vec();
        self.group.candidates.push(Candidate {
            tier,
            attachments,
            exactness,
            note,
        });
        self
    }

    fn rule_out(mut self, why: &str) -> Self {
        self.group.ruled_out.push(why.to_owned());
        self
    }
}

/// Any argument count: only leading arguments are read.
const ANY: usize = usize::MAX;

const fn at(program: &'static str, target: Target) -> Attachment {
    Attachment { program, target }
}

const fn fexit(program: &'static str, function: &'static str) -> Attachment {
    at(program, Target::Fexit(function))
}

const fn fentry(program: &'static str, function: &'static str) -> Attachment {
    at(program, Target::Fentry(function))
}

const fn kprobe(program: &'static str, function: &'static str) -> Attachment {
    at(program, Target::Kprobe(function))
}

const fn kretprobe(program: &'static str, function: &'static str) -> Attachment {
    at(program, Target::Kretprobe(function))
}

const fn syscall(program: &'static str, name: &'static str) -> Attachment {
    at(program, Target::Tracepoint("syscalls", name))
}

const NO_SYSCALL: &str = "calls by io_uring and by 32-bit programs are not seen";
const NO_SYSCALL_CONNECT: &str = "calls by io_uring and by 32-bit programs are not seen, and an IPv6 connect refused by policy looks like one without a source address";
const PREDICTED_SYN: &str = "predicted just before the kernel decides (near-exact); allocation, routing and security drops are not seen";
const PREDICTED_ACK: &str =
    "predicted just before the kernel decides (near-exact); a stray ACK can pass for a syncookie's";

impl Planner<'_> {
    fn group(&self, purposes: &[Purpose]) -> Builder<'_> {
        let group = Group {
            purposes: purposes.to_vec(),
            candidates: Vec::new(),
            ruled_out: Vec::new(),
        };
        Builder {
            planner: self,
            group,
        }
    }

    /// The programs at a syscall's return, and at its entry where the return
    /// cannot see the arguments.
    fn at_syscall(&self, exit: Attachment, enter: Attachment) -> Vec<Attachment> {
        if self.facts.config.has_task_pt_regs == 1 {
            vec![exit]
        } else {
            vec![enter, exit]
        }
    }

    fn connect(&self) -> Group {
        const FUNCTIONS: [(&str, usize); 2] = [("inet_hash_connect", 2), ("inet6_hash_connect", 2)];
        self.group(&[Purpose::Connect])
            .offer(
                Tier::Function,
                &FUNCTIONS,
                &[
                    fexit("fexit_inet_hash_connect", "inet_hash_connect"),
                    fexit("fexit_inet6_hash_connect", "inet6_hash_connect"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &[("__inet_hash_connect", ANY)],
                &[
                    kprobe("kprobe_inet_hash_connect", "__inet_hash_connect"),
                    kretprobe("kretprobe_inet_hash_connect", "__inet_hash_connect"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &[at(
                    "raw_tp_connect",
                    Target::RawTracepoint("inet_sock_set_state"),
                )],
                Exactness::Exact,
                None,
            )
            .group
    }

    fn connect_outer(&self) -> Group {
        const FUNCTIONS: [(&str, usize); 2] = [("tcp_v6_connect", 3), ("__sys_connect_file", 4)];
        self.group(&[Purpose::ConnectV6Source, Purpose::ConnectPolicy])
            .offer(
                Tier::Function,
                &FUNCTIONS,
                &[
                    fexit("fexit_tcp_v6_connect", "tcp_v6_connect"),
                    fexit("fexit_sys_connect_file", "__sys_connect_file"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &FUNCTIONS,
                &[
                    kprobe("kprobe_tcp_v6_connect", "tcp_v6_connect"),
                    kretprobe("kretprobe_tcp_v6_connect", "tcp_v6_connect"),
                    kprobe("kprobe_sys_connect_file", "__sys_connect_file"),
                    kretprobe("kretprobe_sys_connect_file", "__sys_connect_file"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &self.at_syscall(
                    syscall("tp_exit_connect", "sys_exit_connect"),
                    syscall("tp_enter_connect", "sys_enter_connect"),
                ),
                Exactness::Near,
                Some(NO_SYSCALL_CONNECT),
            )
            .group
    }

    fn bind(&self) -> Group {
        const FUNCTIONS: [(&str, usize); 2] = [("__inet_bind", 4), ("__inet6_bind", 4)];
        self.group(&[Purpose::Bind])
            .offer(
                Tier::Function,
                &FUNCTIONS,
                &[
                    fexit("fexit_inet_bind", "__inet_bind"),
                    fexit("fexit_inet6_bind", "__inet6_bind"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &FUNCTIONS,
                &[
                    kprobe("kprobe_inet_bind", "__inet_bind"),
                    kretprobe("kretprobe_inet_bind", "__inet_bind"),
                    kprobe("kprobe_inet6_bind", "__inet6_bind"),
                    kretprobe("kretprobe_inet6_bind", "__inet6_bind"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &self.at_syscall(
                    syscall("tp_exit_bind", "sys_exit_bind"),
                    syscall("tp_enter_bind", "sys_enter_bind"),
                ),
                Exactness::Near,
                Some(NO_SYSCALL),
            )
            .group
    }

    /// The function hook of `listen()`, by its argument count.
    fn listen_start(&self) -> (usize, &'static str) {
        match self.facts.functions.get("inet_csk_listen_start") {
            Some(2) => (2, "fexit_listen_start_2"),
            _ => (1, "fexit_listen_start_1"),
        }
    }

    fn listen(&self) -> Group {
        const FUNCTION: &str = "inet_csk_listen_start";
        let (arguments, program) = self.listen_start();
        self.group(&[Purpose::Listen])
            .offer(
                Tier::Function,
                &[(FUNCTION, arguments)],
                &[fexit(program, FUNCTION)],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &[(FUNCTION, ANY)],
                &KPROBE_LISTEN,
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &self.at_syscall(
                    syscall("tp_exit_listen", "sys_exit_listen"),
                    syscall("tp_enter_listen", "sys_enter_listen"),
                ),
                Exactness::Near,
                Some(NO_SYSCALL),
            )
            .group
    }

    fn listener(&self) -> Group {
        const FUNCTION: &str = "inet_csk_listen_start";
        let (arguments, program) = self.listen_start();
        self.group(&[Purpose::Listener])
            .offer(
                Tier::Function,
                &[(FUNCTION, arguments)],
                &[fexit(program, FUNCTION)],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &[(FUNCTION, ANY)],
                &KPROBE_LISTEN,
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &[at(
                    "raw_tp_listener",
                    Target::RawTracepoint("inet_sock_set_state"),
                )],
                Exactness::Exact,
                None,
            )
            .group
    }

    fn acceptor(&self) -> Group {
        const FUNCTION: [(&str, usize); 1] = [("inet_csk_accept", ANY)];
        self.group(&[Purpose::Acceptor])
            .offer(
                Tier::Function,
                &FUNCTION,
                &[fentry("fentry_inet_csk_accept", "inet_csk_accept")],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &FUNCTION,
                &[kprobe("kprobe_inet_csk_accept", "inet_csk_accept")],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Portable,
                &[],
                &[
                    syscall("tp_enter_accept", "sys_enter_accept"),
                    syscall("tp_enter_accept4", "sys_enter_accept4"),
                ],
                Exactness::Near,
                Some(NO_SYSCALL),
            )
            .group
    }

    /// Attached in this order: a verdict at the return needs the entry, and an
    /// entry without the mark would make a drop of what was accepted.
    fn syn_drop(&self) -> Group {
        const FUNCTIONS: [(&str, usize); 2] =
            [("tcp_conn_request", 4), ("tcp_openreq_init_rwin", 3)];
        let builder = self
            .group(&[Purpose::SynDrop])
            .offer(
                Tier::Function,
                &FUNCTIONS,
                &[
                    fentry("fentry_openreq_init", "tcp_openreq_init_rwin"),
                    fentry("fentry_conn_request", "tcp_conn_request"),
                    fexit("fexit_conn_request", "tcp_conn_request"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &FUNCTIONS,
                &[
                    kprobe("kprobe_openreq_init", "tcp_openreq_init_rwin"),
                    kprobe("kprobe_conn_request", "tcp_conn_request"),
                    kretprobe("kretprobe_conn_request", "tcp_conn_request"),
                ],
                Exactness::Exact,
                None,
            );
        self.at_cgroup(builder, "cgroup_syn", PREDICTED_SYN)
    }

    fn ack_drop(&self) -> Group {
        const FUNCTIONS: [(&str, usize); 2] =
            [("tcp_v4_syn_recv_sock", ANY), ("tcp_v6_syn_recv_sock", ANY)];
        let builder = self
            .group(&[Purpose::AckDrop, Purpose::OverflowReset])
            .offer(
                Tier::Function,
                &FUNCTIONS,
                &[
                    fentry("fentry_v4_syn_recv_sock", "tcp_v4_syn_recv_sock"),
                    fentry("fentry_v6_syn_recv_sock", "tcp_v6_syn_recv_sock"),
                ],
                Exactness::Exact,
                None,
            )
            .offer(
                Tier::Kprobe,
                &FUNCTIONS,
                &[
                    kprobe("kprobe_v4_syn_recv_sock", "tcp_v4_syn_recv_sock"),
                    kprobe("kprobe_v6_syn_recv_sock", "tcp_v6_syn_recv_sock"),
                ],
                Exactness::Exact,
                None,
            );
        self.at_cgroup(builder, "cgroup_ack", PREDICTED_ACK)
    }

    fn at_cgroup(&self, builder: Builder<'_>, program: &'static str, note: &'static str) -> Group {
        let builder = if self.facts.cgroup2.is_some() {
            builder.offer(
                Tier::Portable,
                &[],
                &[at(program, Target::CgroupIngress)],
                Exactness::Near,
                Some(note),
            )
        } else {
            builder.rule_out("portable: no cgroup2 file system is mounted")
        };
        builder.group
    }
}

const KPROBE_LISTEN: [Attachment; 2] = [
    kprobe("kprobe_listen_start", "inet_csk_listen_start"),
    kretprobe("kretprobe_listen_start", "inet_csk_listen_start"),
];

#[cfg(test)]
mod tests;

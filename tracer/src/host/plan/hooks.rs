//! The table of hooks: for each purpose, the ways to serve it.

use super::terms::{Attachment, Candidate, Choice, Exactness, Group, Purpose, Target, Tier};
use crate::host::facts::Facts;

/// Every group of purposes with its candidates. Who opens and who accepts comes
/// first: it is to be known when the first drop is seen.
pub(super) fn groups(facts: &Facts, choice: Choice) -> Vec<Group> {
    let planner = Planner { facts, choice };
    vec![
        planner.listener(),
        planner.acceptor(),
        planner.accept_failure(),
        planner.closer(),
        planner.connect(),
        planner.connect_outer(),
        planner.bind(),
        planner.listen(),
        planner.syn_drop(),
        planner.ack_drop(),
    ]
}

struct Planner<'a> {
    facts: &'a Facts,
    choice: Choice,
}

impl Planner<'_> {
    fn connect(&self) -> Group {
        self.serve(&[Purpose::Connect])
            .function(
                &[("inet_hash_connect", 2), ("inet6_hash_connect", 2)],
                &[
                    fexit("fexit_inet_hash_connect", "inet_hash_connect"),
                    fexit("fexit_inet6_hash_connect", "inet6_hash_connect"),
                ],
            )
            .kprobe(
                &[("__inet_hash_connect", ANY)],
                &kprobe_pair(
                    ["kprobe_inet_hash_connect", "kretprobe_inet_hash_connect"],
                    "__inet_hash_connect",
                ),
            )
            .portable(&[set_state("raw_tp_connect")], Exactness::Exact, None)
            .group
    }

    /// Together, because each of the two stays silent about what the other has
    /// reported in the same call.
    fn connect_outer(&self) -> Group {
        let functions = [("tcp_v6_connect", 3), ("__sys_connect_file", 4)];
        let v6 = kprobe_pair(
            ["kprobe_tcp_v6_connect", "kretprobe_tcp_v6_connect"],
            "tcp_v6_connect",
        );
        let file = kprobe_pair(
            ["kprobe_sys_connect_file", "kretprobe_sys_connect_file"],
            "__sys_connect_file",
        );
        self.serve(&[Purpose::ConnectV6Source, Purpose::ConnectPolicy])
            .function(
                &functions,
                &[
                    fexit("fexit_tcp_v6_connect", "tcp_v6_connect"),
                    fexit("fexit_sys_connect_file", "__sys_connect_file"),
                ],
            )
            // A connect() that waits for its peer keeps an instance of the kretprobe, of which
            // there are about ten (register_kretprobe, kernel/kprobes.c).
            .offer(
                Tier::Kprobe,
                &functions,
                &[v6, file].concat(),
                Exactness::Near,
                Some(MISSED_RETURNS),
            )
            .portable(
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
        let functions = [("__inet_bind", 4), ("__inet6_bind", 4)];
        let v4 = kprobe_pair(["kprobe_inet_bind", "kretprobe_inet_bind"], "__inet_bind");
        let v6 = kprobe_pair(
            ["kprobe_inet6_bind", "kretprobe_inet6_bind"],
            "__inet6_bind",
        );
        self.serve(&[Purpose::Bind])
            .function(
                &functions,
                &[
                    fexit("fexit_inet_bind", "__inet_bind"),
                    fexit("fexit_inet6_bind", "__inet6_bind"),
                ],
            )
            .kprobe(&functions, &[v4, v6].concat())
            .portable(
                &self.at_syscall(
                    syscall("tp_exit_bind", "sys_exit_bind"),
                    syscall("tp_enter_bind", "sys_enter_bind"),
                ),
                Exactness::Near,
                Some(NO_SYSCALL),
            )
            .group
    }

    fn listen(&self) -> Group {
        self.listen_start(Purpose::Listen)
            .portable(
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
        self.listen_start(Purpose::Listener)
            .portable(&[set_state("raw_tp_listener")], Exactness::Exact, None)
            .group
    }

    /// The function that every `listen()` runs through, by its argument count.
    fn listen_start(&self, purpose: Purpose) -> Builder<'_> {
        const FUNCTION: &str = "inet_csk_listen_start";
        let found = self.facts.functions.get(FUNCTION);
        let (arguments, program) = match found.map(|found| found.arguments) {
            Some(2) => (2, "fexit_listen_start_2"),
            _ => (1, "fexit_listen_start_1"),
        };
        self.serve(&[purpose])
            .function(&[(FUNCTION, arguments)], &[fexit(program, FUNCTION)])
            .kprobe(
                &[(FUNCTION, ANY)],
                &kprobe_pair(["kprobe_listen_start", "kretprobe_listen_start"], FUNCTION),
            )
    }

    fn acceptor(&self) -> Group {
        const FUNCTION: &str = "inet_csk_accept";
        let found = self.facts.functions.get(FUNCTION);
        let (arguments, program) = match found.map(|found| found.arguments) {
            Some(4) => (4, "fexit_inet_csk_accept_4"),
            _ => (2, "fexit_inet_csk_accept_2"),
        };
        self.serve(&[Purpose::Acceptor])
            .function(&[(FUNCTION, arguments)], &[fexit(program, FUNCTION)])
            .kprobe(
                &[(FUNCTION, ANY)],
                &[kprobe("kprobe_inet_csk_accept", FUNCTION)],
            )
            .portable(
                &self.at_accept("tp_exit_accept", "tp_exit_accept4"),
                Exactness::Near,
                Some(NO_SYSCALL),
            )
            .group
    }

    /// Tracepoints whatever the choice: a process without a free descriptor fails before
    /// any function of TCP runs.
    fn accept_failure(&self) -> Group {
        let mut group = self.serve(&[Purpose::AcceptFailure]).group;
        group.candidates.push(Candidate {
            tier: Tier::Portable,
            attachments: self.at_accept("tp_exit_accept_failed", "tp_exit_accept4_failed"),
            exactness: Exactness::Near,
            note: Some(NO_SYSCALL),
        });
        group
    }

    /// Both system calls' returns, and entries where the return cannot see the arguments.
    fn at_accept(&self, exit: &'static str, exit4: &'static str) -> Vec<Attachment> {
        [
            self.at_syscall(
                syscall(exit, "sys_exit_accept"),
                syscall("tp_enter_accept", "sys_enter_accept"),
            ),
            self.at_syscall(
                syscall(exit4, "sys_exit_accept4"),
                syscall("tp_enter_accept4", "sys_enter_accept4"),
            ),
        ]
        .concat()
    }

    /// The raw tracepoint whatever the choice: no function hook sees the same, and
    /// a choice is about how failures are seen.
    fn closer(&self) -> Group {
        let mut group = self.serve(&[Purpose::Closer]).group;
        group.candidates.push(Candidate {
            tier: Tier::Portable,
            attachments: vec![set_state("raw_tp_closer")],
            exactness: Exactness::Exact,
            note: None,
        });
        group
    }

    /// Attached in this order: a verdict at the return needs the entry, and an
    /// entry without the mark would make a drop of what was accepted.
    fn syn_drop(&self) -> Group {
        let functions = [("tcp_conn_request", 4), ("tcp_openreq_init_rwin", 3)];
        let request = kprobe_pair(
            ["kprobe_conn_request", "kretprobe_conn_request"],
            "tcp_conn_request",
        );
        self.serve(&[Purpose::SynDrop])
            .function(
                &functions,
                &[
                    fentry("fentry_openreq_init", "tcp_openreq_init_rwin"),
                    fentry("fentry_conn_request", "tcp_conn_request"),
                    fexit("fexit_conn_request", "tcp_conn_request"),
                ],
            )
            .kprobe(
                &functions,
                &[
                    vec![kprobe("kprobe_openreq_init", "tcp_openreq_init_rwin")],
                    request,
                ]
                .concat(),
            )
            .cgroup("cgroup_syn", PREDICTED_SYN)
            .group
    }

    /// Only leading arguments are read: the number of all differs even within
    /// stable series, and a kernel whose trampoline takes no more than six
    /// refuses fentry by itself.
    fn ack_drop(&self) -> Group {
        let functions = [("tcp_v4_syn_recv_sock", ANY), ("tcp_v6_syn_recv_sock", ANY)];
        self.serve(&[Purpose::AckDrop, Purpose::OverflowReset])
            .function(
                &functions,
                &[
                    fentry("fentry_v4_syn_recv_sock", "tcp_v4_syn_recv_sock"),
                    fentry("fentry_v6_syn_recv_sock", "tcp_v6_syn_recv_sock"),
                ],
            )
            .kprobe(
                &functions,
                &[
                    kprobe("kprobe_v4_syn_recv_sock", "tcp_v4_syn_recv_sock"),
                    kprobe("kprobe_v6_syn_recv_sock", "tcp_v6_syn_recv_sock"),
                ],
            )
            .cgroup("cgroup_ack", PREDICTED_ACK)
            .group
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

    fn serve(&self, purposes: &[Purpose]) -> Builder<'_> {
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
}

const NO_SYSCALL: &str = "calls by io_uring and by 32-bit programs are not seen";
const NO_SYSCALL_CONNECT: &str = "calls by io_uring and by 32-bit programs are not seen, nor is sendto() with MSG_FASTOPEN; an IPv6 connect refused by policy looks like one without a source address";
const MISSED_RETURNS: &str =
    "while ten or more connect() calls wait for their peers, others are missed";
const PREDICTED_SYN: &str = "predicted just before the kernel decides (near-exact); allocation, routing and security drops are not seen";
const PREDICTED_ACK: &str =
    "predicted just before the kernel decides (near-exact); a stray ACK can pass for a syncookie's";

/// A function and the argument count that its program was written for.
type Need = (&'static str, usize);

/// Any argument count: only leading arguments are read.
const ANY: usize = usize::MAX;

/// Collects the candidates of one group.
struct Builder<'a> {
    planner: &'a Planner<'a>,
    group: Group,
}

impl Builder<'_> {
    fn function(self, needs: &[Need], attachments: &[Attachment]) -> Self {
        self.offer(Tier::Function, needs, attachments, Exactness::Exact, None)
    }

    fn kprobe(self, needs: &[Need], attachments: &[Attachment]) -> Self {
        self.offer(Tier::Kprobe, needs, attachments, Exactness::Exact, None)
    }

    fn portable(
        self,
        attachments: &[Attachment],
        exactness: Exactness,
        note: Option<&'static str>,
    ) -> Self {
        self.offer(Tier::Portable, &[], attachments, exactness, note)
    }

    fn cgroup(mut self, program: &'static str, note: &'static str) -> Self {
        if self.planner.facts.cgroup2.is_none() {
            self.group
                .ruled_out
                .push("portable: no cgroup2 file system is mounted".into());
            return self;
        }
        let attachment = Attachment {
            program,
            target: Target::CgroupIngress,
        };
        self.portable(&[attachment], Exactness::Near, Some(note))
    }

    /// Adds a candidate if the choice allows its tier and every function it
    /// hooks exists with the argument count its program was written for.
    fn offer(
        mut self,
        tier: Tier,
        needs: &[Need],
        attachments: &[Attachment],
        exactness: Exactness,
        note: Option<&'static str>,
    ) -> Self {
        if !self.planner.choice.allows(tier) {
            return self;
        }
        let unmet = needs.iter().find_map(|need| self.unmet(need));
        match unmet {
            Some(why) => self.group.ruled_out.push(format!("{}: {why}", tier.name())),
            None => self.group.candidates.push(Candidate {
                tier,
                attachments: attachments.to_vec(),
                exactness,
                note,
            }),
        }
        self
    }

    fn unmet(&self, (function, arguments): &Need) -> Option<String> {
        match self.planner.facts.functions.get(function) {
            None => Some(format!("this kernel's BTF has no {function}")),
            Some(found) if *arguments == ANY || found.arguments == *arguments => None,
            Some(found) => Some(format!(
                "{function} takes {} arguments, not {arguments}",
                found.arguments
            )),
        }
    }
}

const fn fexit(program: &'static str, function: &'static str) -> Attachment {
    Attachment {
        program,
        target: Target::Fexit(function),
    }
}

const fn fentry(program: &'static str, function: &'static str) -> Attachment {
    Attachment {
        program,
        target: Target::Fentry(function),
    }
}

const fn kprobe(program: &'static str, function: &'static str) -> Attachment {
    Attachment {
        program,
        target: Target::Kprobe(function),
    }
}

/// The entry, which keeps the arguments, before the return, which needs them.
fn kprobe_pair([entry, exit]: [&'static str; 2], function: &'static str) -> Vec<Attachment> {
    let exit = Attachment {
        program: exit,
        target: Target::Kretprobe(function),
    };
    vec![kprobe(entry, function), exit]
}

const fn syscall(program: &'static str, name: &'static str) -> Attachment {
    Attachment {
        program,
        target: Target::Tracepoint("syscalls", name),
    }
}

const fn set_state(program: &'static str) -> Attachment {
    Attachment {
        program,
        target: Target::RawTracepoint("inet_sock_set_state"),
    }
}

//! When does each rule speak, and when does it just not?

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tracer_common::{Cause, Kind};

use super::findings::*;
use crate::explain::{
    advice::{Rule, on_census, on_queue, ports, queues},
    finding::{Advice, Census, PortState::*, QueueFinding, Range},
};
use Finding::{Ports, Queue as OfQueue};

/// Of either kind.
#[expect(clippy::large_enum_variant, reason = "there are a few dozen of them")]
pub(super) enum Finding {
    Ports(Census),
    Queue(QueueFinding),
}

impl Finding {
    pub(super) fn advice(&self) -> Vec<Advice> {
        match self {
            Ports(census) => on_census(census),
            OfQueue(finding) => on_queue(finding),
        }
    }

    /// Whether the rule applies, be it among the first three or not.
    pub(super) fn applies(&self, id: &str) -> bool {
        fn applies<T>(rules: &[Rule<T>], id: &str, finding: &T) -> bool {
            let mut rules = rules.iter().filter(|rule| rule.id == id);
            rules.any(|rule| (rule.says)(finding).is_some())
        }
        match self {
            Ports(census) => applies(ports::RULES, id, census),
            OfQueue(finding) => applies(queues::RULES, id, finding),
        }
    }
}

/// A rule, whether it is due, a finding, and something that the text must quote.
pub(super) type Case = (&'static str, bool, Finding, &'static str);

fn yes(id: &'static str, finding: Finding, quote: &'static str) -> Case {
    (id, true, finding, quote)
}

fn no(id: &'static str, finding: Finding) -> Case {
    (id, false, finding, "")
}

fn one_port_cases() -> Vec<Case> {
    vec![
        yes(
            "let-connect-choose",
            Ports(clash(of(Established, 1))),
            "45000",
        ),
        yes(
            "let-connect-choose",
            Ports(clash(of(TimeWait, 1))),
            "TIME_WAIT",
        ),
        no(
            "let-connect-choose",
            Ports(connect(vec![of(Established, 9000)])),
        ),
        no(
            "let-connect-choose",
            Ports(taken(45000, of(Established, 1))),
        ),
        yes(
            "port-owner",
            Ports(taken(8080, of(Listening, 1))),
            "curl[7] listens",
        ),
        yes(
            "port-owner",
            Ports(taken(8080, of(BoundUnused, 1))),
            "curl[7] has bound",
        ),
        yes(
            "port-owner",
            Ports(udp(taken(53, of(BoundUnused, 1)))),
            "curl[7] has bound",
        ),
        yes(
            "port-owner",
            Ports(one_port(
                Kind::ListenFailed,
                Cause::PortInUse,
                80,
                of(Listening, 1),
            )),
            "curl[7]",
        ),
        no("port-owner", Ports(taken(8080, of(TimeWait, 1)))),
        no("port-owner", Ports(taken(8080, nobodys(of(Listening, 1))))),
        no("port-owner", Ports(connect(vec![of(Listening, 9000)]))),
        yes(
            "reuse-addr",
            Ports(taken(8080, of(TimeWait, 1))),
            "1 connection in TIME_WAIT is",
        ),
        yes("reuse-addr", Ports(taken(8080, of(Closing, 1))), "8080"),
        yes("reuse-addr", Ports(taken(8080, of(Established, 1))), "8080"),
        no("reuse-addr", Ports(taken(8080, of(Listening, 1)))),
        no("reuse-addr", Ports(taken(8080, of(BoundUnused, 1)))),
        no("reuse-addr", Ports(udp(taken(8080, of(Established, 1))))),
        // A search for any port does not heed it.
        no("reuse-addr", Ports(bind(vec![of(TimeWait, 28232)]))),
        no("reuse-addr", Ports(clash(of(TimeWait, 1)))),
        yes("share-port", Ports(taken(8080, of(Listening, 1))), "8080"),
        yes(
            "share-port",
            Ports(udp(taken(53, of(BoundUnused, 1)))),
            "53",
        ),
        no("share-port", Ports(taken(8080, of(TimeWait, 1)))),
        no("share-port", Ports(taken(8080, of(BoundUnused, 1)))),
        yes(
            "reserve-port",
            Ports(taken(40000, of(Established, 1))),
            "32768 60999",
        ),
        yes(
            "reserve-port",
            Ports(udp(taken(40000, of(BoundUnused, 1)))),
            "40000",
        ),
        no("reserve-port", Ports(taken(8080, of(Established, 1)))),
        no("reserve-port", Ports(taken(40000, of(Listening, 1)))),
        no(
            "reserve-port",
            Ports(with(taken(40000, of(Established, 1)), |it| {
                it.settings.reserved_ports = vec![(39000, 41000)];
            })),
        ),
    ]
}

fn state_cases() -> Vec<Case> {
    vec![
        yes(
            "keep-alive",
            Ports(connect(vec![of(TimeWait, 28000)])),
            "28000 of 28232",
        ),
        yes(
            "keep-alive",
            Ports(connect(vec![of(Closing, 28000)])),
            "curl[7]",
        ),
        yes(
            "keep-alive",
            Ports(connect(vec![nobodys(of(TimeWait, 28000))])),
            "10.0.0.2:80",
        ),
        yes(
            "keep-alive",
            Ports(connect(vec![of(Established, 20000), of(TimeWait, 8000)])),
            "8000",
        ),
        no(
            "keep-alive",
            Ports(connect(vec![of(Established, 27000), of(TimeWait, 1000)])),
        ),
        no("keep-alive", Ports(bind(vec![of(TimeWait, 28000)]))),
        no("keep-alive", Ports(clash(of(TimeWait, 1)))),
        yes(
            "close-after-peer",
            Ports(connect(vec![of(CloseWait, 28000)])),
            "curl[7]",
        ),
        yes(
            "close-after-peer",
            Ports(bind(vec![of(CloseWait, 28000)])),
            "28000",
        ),
        no(
            "close-after-peer",
            Ports(connect(vec![of(Established, 27000), of(CloseWait, 500)])),
        ),
        no("close-after-peer", Ports(taken(8080, of(CloseWait, 1)))),
        yes(
            "limit-pool",
            Ports(connect(vec![of(Established, 28232)])),
            "10.0.0.2:80",
        ),
        no(
            "limit-pool",
            Ports(connect(vec![of(TimeWait, 28000), of(Established, 232)])),
        ),
        no("limit-pool", Ports(bind(vec![of(Established, 28232)]))),
        no("limit-pool", Ports(clash(of(Established, 1)))),
        yes(
            "connect-timeout",
            Ports(connect(vec![of(SynSent, 28232)])),
            "28232",
        ),
        no(
            "connect-timeout",
            Ports(connect(vec![of(TimeWait, 28000), of(SynSent, 232)])),
        ),
        yes(
            "close-bound",
            Ports(connect(vec![of(TimeWait, 20000), of(BoundUnused, 8000)])),
            "8000",
        ),
        yes(
            "close-bound",
            Ports(bind(vec![of(BoundUnused, 28232)])),
            "curl[7]",
        ),
        no(
            "close-bound",
            Ports(connect(vec![of(TimeWait, 28000), of(BoundUnused, 200)])),
        ),
        no(
            "close-bound",
            Ports(udp(bind(vec![of(BoundUnused, 28232)]))),
        ),
        no("close-bound", Ports(taken(8080, of(BoundUnused, 1)))),
        yes(
            "bind-no-port",
            Ports(connect(vec![of(BoundElsewhere, 28232)])),
            "curl[7]",
        ),
        yes(
            "bind-no-port",
            Ports(bind(vec![of(TimeWait, 20000), of(Established, 8232)])),
            "28232",
        ),
        no(
            "bind-no-port",
            Ports(bind(vec![of(BoundUnused, 28000), of(TimeWait, 232)])),
        ),
        no(
            "bind-no-port",
            Ports(udp(bind(vec![of(Established, 28232)]))),
        ),
        no("bind-no-port", Ports(connect(vec![of(TimeWait, 28000)]))),
        no("bind-no-port", Ports(taken(8080, of(TimeWait, 1)))),
        yes(
            "close-udp",
            Ports(udp(bind(vec![of(BoundUnused, 28232)]))),
            "unconnected",
        ),
        yes(
            "close-udp",
            Ports(udp(bind(vec![of(Established, 28232)]))),
            "curl[7]",
        ),
        no("close-udp", Ports(bind(vec![of(BoundUnused, 28232)]))),
        no("close-udp", Ports(udp(taken(53, of(BoundUnused, 1))))),
        yes(
            "move-listeners",
            Ports(connect(vec![of(TimeWait, 20000), of(Listening, 8000)])),
            "8000",
        ),
        no(
            "move-listeners",
            Ports(connect(vec![of(TimeWait, 28000), of(Listening, 9)])),
        ),
        no("move-listeners", Ports(taken(40000, of(Listening, 1)))),
        yes(
            "unreserve-ports",
            Ports(reserved(8000)),
            "8000 of the 28232",
        ),
        no("unreserve-ports", Ports(reserved(2000))),
        no("unreserve-ports", Ports(taken(40000, of(TimeWait, 1)))),
    ]
}

fn reserved(ports: u32) -> Census {
    with(connect(vec![of(Established, 28232 - ports)]), |it| {
        it.range.reserved = ports;
        it.range.usable = 28232 - ports;
        it.free = 0;
    })
}

/// All ports in TIME_WAIT.
fn waiting(change: impl FnOnce(&mut Census)) -> Finding {
    Ports(with(connect(vec![of(TimeWait, 28232)]), change))
}

fn time_wait_cases() -> Vec<Case> {
    let loopback = |it: &mut Census| {
        it.source = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        it.destination = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
    };
    vec![
        yes(
            "tcp-timestamps",
            waiting(|it| it.settings.timestamps = Some(0)),
            "(now 2)",
        ),
        yes(
            "tcp-timestamps",
            Ports(with(clash(of(TimeWait, 1)), |it| {
                it.settings.timestamps = Some(0)
            })),
            "(now 0)",
        ),
        no("tcp-timestamps", waiting(|_| {})),
        no(
            "tcp-timestamps",
            waiting(|it| it.settings.timestamps = Some(2)),
        ),
        no(
            "tcp-timestamps",
            Ports(with(clash(of(Established, 1)), |it| {
                it.settings.timestamps = Some(0)
            })),
        ),
        yes(
            "tw-reuse",
            waiting(|it| it.settings.tw_reuse = Some(0)),
            "(now 0)",
        ),
        yes(
            "tw-reuse",
            waiting(|_| {}),
            "(now 2: loopback addresses only)",
        ),
        yes(
            "tw-reuse",
            waiting(|it| it.settings.tw_reuse_delay = None),
            "a second",
        ),
        yes(
            "tw-reuse",
            waiting(|it| {
                loopback(it);
                it.settings.tw_reuse = Some(0);
            }),
            "1000 ms",
        ),
        no("tw-reuse", waiting(|it| it.settings.tw_reuse = Some(1))),
        no("tw-reuse", waiting(loopback)),
        no(
            "tw-reuse",
            waiting(|it| it.destination = "[::1]:80".parse().ok()),
        ),
        no("tw-reuse", waiting(|it| it.settings.timestamps = Some(0))),
        no(
            "tw-reuse",
            Ports(connect(vec![of(Established, 20000), of(TimeWait, 8000)])),
        ),
        no("tw-reuse", Ports(bind(vec![of(TimeWait, 28232)]))),
        no("tw-reuse", Ports(clash(of(TimeWait, 1)))),
        yes(
            "tw-reuse-delay",
            waiting(|it| {
                it.settings.tw_reuse = Some(1);
                it.settings.tw_reuse_delay = Some(60000);
            }),
            "(now 60000)",
        ),
        no(
            "tw-reuse-delay",
            waiting(|it| it.settings.tw_reuse_delay = Some(60000)),
        ),
        no(
            "tw-reuse-delay",
            waiting(|it| it.settings.tw_reuse = Some(1)),
        ),
        no(
            "tw-reuse-delay",
            waiting(|it| it.settings.tw_reuse_delay = None),
        ),
        yes(
            "tw-reuse-age",
            waiting(|it| it.settings.tw_reuse = Some(1)),
            "it is 1",
        ),
        yes("tw-reuse-age", waiting(loopback), "it is 2"),
        no("tw-reuse-age", waiting(|_| {})),
        no(
            "tw-reuse-age",
            waiting(|it| {
                it.settings.tw_reuse = Some(1);
                it.settings.timestamps = Some(0);
            }),
        ),
        no(
            "tw-reuse-age",
            waiting(|it| {
                it.settings.tw_reuse = Some(1);
                it.settings.tw_reuse_delay = Some(60000);
            }),
        ),
    ]
}

fn range_cases() -> Vec<Case> {
    let own = |it: &mut Census| {
        it.range = Range {
            low: 40000,
            high: 40099,
            is_own: true,
            reserved: 0,
            usable: 100,
        };
    };
    let range = |low, high| {
        move |it: &mut Census| {
            it.settings.port_range = Some((low, high));
            it.range.low = low;
            it.range.high = high;
            it.range.usable = u32::from(high - low) + 1;
        }
    };
    let full = |state, ports, change: &dyn Fn(&mut Census)| {
        Ports(with(connect(vec![of(state, ports)]), change))
    };
    vec![
        yes("own-range", full(Established, 100, &own), "40000 to 40099"),
        no("own-range", full(Established, 28232, &|_| {})),
        // Both ends lie outside of the range of the namespace and do not count.
        no(
            "own-range",
            full(Established, 28232, &|it| it.range.is_own = true),
        ),
        yes(
            "widen-range",
            full(Established, 28232, &|_| {}),
            "now 32768 60999",
        ),
        yes(
            "widen-range",
            Ports(udp(bind(vec![of(Established, 28232)]))),
            "1024 65535",
        ),
        yes(
            "widen-range",
            full(Established, 28232, &|it| it.range.is_own = true),
            "32768",
        ),
        yes(
            "widen-range",
            full(Established, 4, &range(40000, 40004)),
            "leaves one out",
        ),
        no("widen-range", full(Established, 60000, &range(2000, 65000))),
        no("widen-range", full(Established, 100, &own)),
        no("widen-range", full(CloseWait, 28232, &|_| {})),
        no("widen-range", full(BoundUnused, 28232, &|_| {})),
        no("widen-range", Ports(taken(40000, of(Established, 1)))),
        yes(
            "more-addresses",
            full(Established, 28232, &|_| {}),
            "10.0.0.1",
        ),
        yes(
            "more-addresses",
            Ports(bind(vec![of(TimeWait, 28232)])),
            "10.0.0.1",
        ),
        no("more-addresses", full(TimeWait, 28232, &|_| {})),
        no("more-addresses", full(CloseWait, 28232, &|_| {})),
        no(
            "more-addresses",
            Ports(with(bind(vec![of(TimeWait, 28232)]), |it| {
                it.source = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            })),
        ),
        no("more-addresses", Ports(clash(of(Established, 1)))),
        yes("port-slice", full(BoundUnused, 28232, &|_| {}), "curl[7]"),
        yes(
            "port-slice",
            full(BoundElsewhere, 28232, &|_| {}),
            "32768-60999",
        ),
        no(
            "port-slice",
            full(BoundUnused, 28232, &|it| it.settings.has_own_range = false),
        ),
        no("port-slice", full(BoundUnused, 100, &own)),
        no("port-slice", full(Established, 28232, &|_| {})),
        no(
            "port-slice",
            Ports(connect(vec![nobodys(of(BoundUnused, 28232))])),
        ),
    ]
}

fn accept_queue_cases() -> Vec<Case> {
    let of = |change: &dyn Fn(&mut QueueFinding)| OfQueue(queue(change));
    let long = |it: &mut QueueFinding| limit(it, 4096, Some((4096, 4096)), 4096);
    vec![
        yes(
            "accept-fails",
            of(&|it| accept_fails(it, libc::EMFILE)),
            "limit of open files of api[2058]",
        ),
        // Nothing tells which of several it is.
        yes(
            "accept-fails",
            of(&|it| {
                accept_fails(it, libc::EMFILE);
                let one = it.process.clone();
                let mut other = one.clone();
                other.iter_mut().for_each(|it| it.pid = 2059);
                it.holders = one.into_iter().chain(other).collect();
            }),
            "whichever process fails of those that hold the listener (api[2058], api[2059])",
        ),
        yes(
            "accept-fails",
            of(&|it| accept_fails(it, libc::ENFILE)),
            "failed 7 times with ENFILE",
        ),
        no("accept-fails", of(&|_| {})),
        no(
            "accept-fails",
            of(&|it| {
                accept_fails(it, libc::EMFILE);
                it.cause = Cause::Other;
            }),
        ),
        no("accept-faster", of(&|it| accept_fails(it, libc::EMFILE))),
        no("raise-backlog", of(&|it| accept_fails(it, libc::EMFILE))),
        yes(
            "accept-faster",
            of(&|_| {}),
            "api[2058] does not accept: 3 connections",
        ),
        yes("accept-faster", of(&|it| pace(it, 0.0, 0.0)), "took none."),
        yes(
            "accept-faster",
            of(&|it| pace(it, 120.0, 300.0)),
            "120/s, and 300/s",
        ),
        yes(
            "accept-faster",
            of(&|it| {
                long(it);
                unknown_pace(it);
            }),
            "4097",
        ),
        yes(
            "accept-faster",
            of(&|it| it.process = None),
            "10.0.0.1:8080",
        ),
        no("accept-faster", of(&unknown_pace)),
        no("accept-faster", of(&|it| pace(it, 95.0, 100.0))),
        no(
            "accept-faster",
            OfQueue(no_cookies(Cause::RequestQueueFull)),
        ),
        no("accept-faster", of(&|it| it.cause = Cause::Other)),
        yes(
            "listen-again",
            of(&|it| limit(it, 128, Some((511, 128)), 4096)),
            "is 4096 now, but was 128",
        ),
        no(
            "listen-again",
            of(&|it| limit(it, 128, Some((511, 128)), 128)),
        ),
        no(
            "listen-again",
            of(&|it| limit(it, 128, Some((128, 128)), 4096)),
        ),
        no("listen-again", of(&|it| limit(it, 128, None, 4096))),
        yes(
            "raise-somaxconn",
            of(&|it| limit(it, 128, Some((511, 128)), 128)),
            "for 511 and got 128",
        ),
        yes(
            "raise-somaxconn",
            of(&|it| limit(it, 128, Some((-1, 128)), 128)),
            "the longest queue",
        ),
        yes(
            "raise-somaxconn",
            of(&|it| limit(it, 128, None, 128)),
            "(now 128)",
        ),
        no(
            "raise-somaxconn",
            of(&|it| limit(it, 128, Some((511, 128)), 4096)),
        ),
        no("raise-somaxconn", of(&|_| {})),
        no("raise-somaxconn", of(&|it| limit(it, 128, None, 4096))),
        no(
            "raise-somaxconn",
            of(&|it| limit(it, 4096, Some((9999, 4096)), 4096)),
        ),
        yes(
            "raise-backlog",
            of(&|_| {}),
            "more than 2 to listen(), up to net.core.somaxconn (4096)",
        ),
        yes(
            "raise-backlog",
            of(&|it| pace(it, 95.0, 100.0)),
            "95/s of 100/s",
        ),
        yes(
            "raise-backlog",
            of(&|it| limit(it, 128, None, 4096)),
            "restart",
        ),
        yes(
            "raise-backlog",
            of(&|it| limit(it, 128, Some((128, 128)), 128)),
            "(now 128) with it",
        ),
        yes(
            "raise-backlog",
            of(&|it| {
                long(it);
                pace(it, 950.0, 1000.0);
            }),
            "4096",
        ),
        yes(
            "raise-backlog",
            OfQueue(no_cookies(Cause::RequestQueueFull)),
            "more than 511",
        ),
        no("raise-backlog", of(&long)),
        no("raise-backlog", of(&|it| limit(it, 128, None, 128))),
        no(
            "raise-backlog",
            of(&|it| limit(it, 128, Some((511, 128)), 128)),
        ),
        no("raise-backlog", of(&|it| it.cause = Cause::Other)),
        no("raise-backlog", OfQueue(no_cookies(Cause::BacklogReserve))),
    ]
}

fn other_queue_cases() -> Vec<Case> {
    let acks = |it: &mut QueueFinding| it.ack_drops = 3;
    let resets = |it: &mut QueueFinding| {
        it.resets = 3;
        it.settings.abort_on_overflow = Some(1);
    };
    let changed = |mut finding: QueueFinding, change: fn(&mut QueueFinding)| {
        change(&mut finding);
        OfQueue(finding)
    };
    vec![
        yes(
            "syncookies",
            OfQueue(no_cookies(Cause::RequestQueueFull)),
            "400 handshakes",
        ),
        yes(
            "syncookies",
            OfQueue(no_cookies(Cause::BacklogReserve)),
            "(now 0)",
        ),
        // They do not help a full accept queue.
        no(
            "syncookies",
            OfQueue(queue(|it| it.settings.syncookies = Some(0))),
        ),
        no(
            "syncookies",
            changed(no_cookies(Cause::RequestQueueFull), |it| {
                it.settings.syncookies = Some(1)
            }),
        ),
        yes(
            "max-syn-backlog",
            OfQueue(no_cookies(Cause::BacklogReserve)),
            "(now 512)",
        ),
        no(
            "max-syn-backlog",
            OfQueue(no_cookies(Cause::RequestQueueFull)),
        ),
        no(
            "max-syn-backlog",
            OfQueue(queue(|it| it.settings.syncookies = Some(0))),
        ),
        no(
            "max-syn-backlog",
            changed(no_cookies(Cause::BacklogReserve), |it| {
                it.settings.max_syn_backlog = Some(4096);
            }),
        ),
        yes(
            "client-timeout",
            OfQueue(queue(ghost(Some(process("psql", 9))))),
            "psql[9]",
        ),
        yes(
            "client-timeout",
            OfQueue(queue(ghost(None))),
            "10.0.0.3:50000",
        ),
        no("client-timeout", OfQueue(queue(acks))),
        yes("abort-on-overflow", OfQueue(queue(acks)), "(now 0)"),
        no("abort-on-overflow", OfQueue(queue(|_| {}))),
        no(
            "abort-on-overflow",
            changed(no_cookies(Cause::RequestQueueFull), |it| it.ack_drops = 3),
        ),
        no("abort-on-overflow", OfQueue(queue(resets))),
        no(
            "abort-on-overflow",
            OfQueue(queue(|it| {
                acks(it);
                pace(it, 95.0, 100.0);
            })),
        ),
        yes(
            "no-abort-on-overflow",
            OfQueue(queue(resets)),
            "3 handshakes",
        ),
        no("no-abort-on-overflow", OfQueue(queue(acks))),
        no(
            "no-abort-on-overflow",
            OfQueue(queue(|it| it.settings.abort_on_overflow = Some(1))),
        ),
    ]
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    [
        one_port_cases(),
        state_cases(),
        time_wait_cases(),
        range_cases(),
        accept_queue_cases(),
        other_queue_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

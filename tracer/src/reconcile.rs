//! tracer's counts beside the kernel's own, per network namespace. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use tracer_common::{Cause, Kind};

use crate::{
    attribute::namespaces::{Netstat, Standing},
    model::Netns,
    source::counters::Counts,
};

/// One counter, counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) tracer: u64,
    /// `None`: the namespace was never readable.
    pub(crate) kernel: Option<u64>,
}

impl Pair {
    /// kernel - tracer.
    pub(crate) fn difference(self) -> Option<i128> {
        Some(i128::from(self.kernel?) - i128::from(self.tracer))
    }
}

/// The listen-queue counters of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) netns: Netns,
    pub(crate) listen_overflows: Pair,
    pub(crate) listen_drops: Pair,
    pub(crate) req_qfull_drop: Pair,
    /// Why the kernel's numbers are missing or may be old.
    pub(crate) unavailable: Option<Cow<'static, str>>,
    /// What else may stand behind a difference.
    pub(crate) explanation: Option<Cow<'static, str>>,
}

/// Where the kernel raises ListenDrops and no hook counts: tcp_req_err (net/ipv4/tcp_ipv4.c,
/// net/ipv6/tcp_ipv6.c), tcp_v4_conn_request and tcp_v6_conn_request for SYNs that are not
/// sent to one host, tcp_v4_syn_recv_sock and tcp_v6_syn_recv_sock where no socket can be
/// made; in the portable tier also the other drops of tcp_conn_request.
const MORE_DROPS: &str = "the kernel also counts half-open handshakes that an ICMP error ended, SYNs to broadcast and multicast addresses, and handshakes for which memory or a route was missing";

/// Where nothing is counted.
const BLIND: &str = "tracer has no hook here for all drops that the kernel counts";

/// Where a prediction can be wrong.
const FEWER_DROPS: &str = "tracer predicted drops that the kernel did not make: segments that it refused earlier, or stray ACKs that passed for a syncookie's";

impl Row {
    fn pairs(&self) -> [Pair; 3] {
        [
            self.listen_overflows,
            self.listen_drops,
            self.req_qfull_drop,
        ]
    }

    fn kernel_has_more(&self) -> bool {
        let more = |pair: &Pair| pair.difference().is_some_and(|difference| difference > 0);
        self.pairs().iter().any(more)
    }

    /// Whether every difference is 0.
    pub(crate) fn agrees(&self) -> bool {
        self.pairs().iter().all(|pair| pair.difference() == Some(0))
    }
}

/// Sets counts beside counters, for every namespace where either is not zero.
/// `unplaced`: how many failures are in no namespace's counts. `is_blind`: there is no hook
/// for some drops.
pub(crate) fn reconcile(
    counts: &Counts,
    unplaced: u64,
    is_blind: bool,
    kernel: &BTreeMap<Netns, (Netstat, Standing)>,
) -> Vec<Row> {
    let mut ours: BTreeMap<Netns, Netstat> = BTreeMap::new();
    for (&(netns, kind, cause), &count) in counts {
        add(ours.entry(netns).or_default(), kind, cause, count);
    }
    for (&netns, (netstat, _)) in kernel {
        if *netstat != Netstat::default() {
            ours.entry(netns).or_default();
        }
    }
    let mut rows: Vec<Row> = ours
        .into_iter()
        .map(|(netns, ours)| row(netns, ours, unplaced, kernel.get(&netns)))
        .collect();
    for row in rows
        .iter_mut()
        .filter(|row| is_blind && row.kernel_has_more())
    {
        row.explanation = Some(Cow::Borrowed(BLIND));
    }
    rows.retain(|row| {
        row.pairs()
            .iter()
            .any(|pair| pair.tracer != 0 || pair.kernel.is_some_and(|kernel| kernel != 0))
    });
    rows
}

fn row(netns: Netns, ours: Netstat, unplaced: u64, kernel: Option<&(Netstat, Standing)>) -> Row {
    let pair = |get: fn(&Netstat) -> u64| Pair {
        tracer: get(&ours),
        kernel: kernel
            .filter(|(_, standing)| *standing != Standing::Backwards)
            .map(|(netstat, _)| get(netstat)),
    };
    let mut row = Row {
        netns,
        listen_overflows: pair(|n| n.listen_overflows),
        listen_drops: pair(|n| n.listen_drops),
        req_qfull_drop: pair(|n| n.req_qfull_drop),
        unavailable: None,
        explanation: None,
    };
    let unavailable = match kernel {
        None => Some("tracer found no way into this namespace, so its counters could not be read"),
        Some((_, Standing::Backwards)) => {
            Some("a counter of the kernel is lower than it was when tracer started")
        }
        Some((_, Standing::Old)) => {
            Some("the namespace is gone: the kernel's numbers are the last ones read")
        }
        Some((_, Standing::Unread)) => Some(
            "tracer may not read the namespace's counters any more: the kernel's numbers are the last ones read",
        ),
        Some((_, Standing::Late)) if row.kernel_has_more() => Some(
            "the namespace was first seen after tracer started: the kernel's numbers count from when it was made",
        ),
        Some(_) if unplaced > 0 && row.kernel_has_more() => Some(
            "tracer's table of counts was full: what is missing may be among the failures that are in no namespace",
        ),
        Some((_, Standing::Late | Standing::Current)) => None,
    };
    row.unavailable = unavailable.map(Cow::Borrowed);
    let difference = row.listen_drops.difference();
    let difference = difference.filter(|_| row.unavailable.is_none());
    row.explanation = match difference.map(i128::signum) {
        Some(1) => Some(Cow::Borrowed(MORE_DROPS)),
        Some(-1) => Some(Cow::Borrowed(FEWER_DROPS)),
        _ => None,
    };
    row
}

/// Which counters the kernel raises for a failure (tcp_conn_request and
/// tcp_v4_syn_recv_sock, net/ipv4).
fn add(ours: &mut Netstat, kind: Kind, cause: Cause, count: u64) {
    if !kind.is_drop() {
        return;
    }
    ours.listen_drops += count;
    match cause {
        Cause::AcceptQueueFull => ours.listen_overflows += count,
        Cause::RequestQueueFull => ours.req_qfull_drop += count,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn life(inum: u32) -> Netns {
        Netns::of_inode(inum)
    }

    #[test]
    fn every_failure_is_set_beside_its_counter() {
        let counts = Counts::from([
            ((life(1), Kind::SynDropped, Cause::AcceptQueueFull), 3),
            ((life(1), Kind::SynDropped, Cause::RequestQueueFull), 5),
            ((life(1), Kind::SynDropped, Cause::BacklogReserve), 7),
            ((life(1), Kind::AckDropped, Cause::AcceptQueueFull), 11),
            ((life(1), Kind::OverflowReset, Cause::AcceptQueueFull), 13),
            ((life(1), Kind::ConnectFailed, Cause::PortsExhausted), 99),
            ((life(2), Kind::BindFailed, Cause::PortInUse), 99),
            ((life(3), Kind::SynDropped, Cause::AcceptQueueFull), 1),
        ]);
        let netstat = Netstat {
            listen_overflows: 27,
            listen_drops: 40,
            req_qfull_drop: 5,
        };
        let kernel = BTreeMap::from([
            (life(1), (netstat, Standing::Current)),
            (life(2), (Netstat::default(), Standing::Late)),
            (
                life(4),
                (
                    Netstat {
                        listen_drops: 2,
                        ..Netstat::default()
                    },
                    Standing::Old,
                ),
            ),
        ]);
        let is_explained = |unplaced| {
            let rows = reconcile(&counts, unplaced, false, &kernel);
            rows.iter()
                .any(|row| row.netns == life(1) && row.unavailable.is_some())
        };
        assert!(is_explained(1) && !is_explained(0));
        let rows = reconcile(&counts, 0, false, &kernel);
        assert_eq!(
            rows.iter().map(|row| row.netns.inum).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        let differences: Vec<_> = rows
            .iter()
            .map(|row| {
                [row.listen_overflows, row.listen_drops, row.req_qfull_drop].map(Pair::difference)
            })
            .collect();
        assert_eq!(
            differences,
            [
                [Some(0), Some(1), Some(0)],
                [None, None, None],
                [Some(0), Some(2), Some(0)],
            ]
        );
        assert_eq!(
            rows.iter()
                .map(|row| row.unavailable.is_some())
                .collect::<Vec<_>>(),
            [false, true, true]
        );
    }
}

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::SignedDuration;
use tracer_common::{Cause, Hook, Kind};

use super::*;
use crate::model::{Process, Queue, Role};

/// A moment, in milliseconds.
fn at(ms: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(1_000_000_000_000 + ms)
}

fn listener(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// The `n`th of many peers.
fn peer(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0b00_0000 | n), 40000))
}

fn syn(ms: i64, from: SocketAddr) -> Failure {
    Failure {
        time: at(ms),
        kind: Kind::SynDropped,
        cause: Cause::AcceptQueueFull,
        hook: Hook::CgroupSkbIngress,
        errno: None,
        local: Some(listener(80)),
        remote: Some(from),
        accept_queue: Some(Queue { len: 3, max: 2 }),
        request_queue: Some(Queue { len: 0, max: 2 }),
        ..Failure::example()
    }
}

fn ack(ms: i64, from: SocketAddr) -> Failure {
    Failure {
        kind: Kind::AckDropped,
        ..syn(ms, from)
    }
}

fn reset(ms: i64, from: SocketAddr) -> Failure {
    Failure {
        kind: Kind::OverflowReset,
        ..syn(ms, from)
    }
}

/// Gives ids from 1 on.
struct Run {
    queues: Queues,
    last_id: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            queues: Queues::new(),
            last_id: 0,
        }
    }

    fn note(&mut self, failure: &Failure) -> u64 {
        self.note_accepts(failure, None)
    }

    fn note_accepts(&mut self, failure: &Failure, accepts: Option<u64>) -> u64 {
        let last = &mut self.last_id;
        let accepts = Accepts {
            returned: accepts,
            ..Accepts::default()
        };
        self.queues.note(failure, accepts, || {
            *last += 1;
            *last
        })
    }

    /// Id and connections of what is due.
    fn due(&mut self, ms: i64) -> Vec<(u64, u64)> {
        numbers(&self.queues.due(at(ms)))
    }

    /// The only finding, told at the end.
    fn only(mut self) -> Option<Draft> {
        let mut drafts = self.queues.finish(at(3_600_000));
        let draft = drafts.pop();
        drafts.is_empty().then_some(draft).flatten()
    }

    fn only_finding(self) -> Option<QueueFinding> {
        self.only().map(|draft| draft.finding)
    }

    /// Peers that are remembered for all listeners.
    fn peers(&self) -> usize {
        self.queues.episodes.values().map(Episode::peers).sum()
    }
}

fn numbers(drafts: &[Draft]) -> Vec<(u64, u64)> {
    let of = |draft: &Draft| (draft.finding.id, draft.finding.connections);
    drafts.iter().map(of).collect()
}

#[test]
fn a_finding_comes_after_a_second_then_ever_less_often_and_when_it_is_quiet() {
    let mut run = Run::new();
    let mut told = Vec::new();
    // Ten drops a second for 20 s, asked about each 100 ms.
    for tick in 0..300_u32 {
        let ms = i64::from(tick) * 100;
        if tick < 200 {
            assert_eq!(run.note(&syn(ms, peer(tick))), 1);
        }
        told.extend(run.due(ms).into_iter().map(|told| (ms, told)));
    }
    let expected = [
        (1000, (1, 11)),
        (3000, (1, 31)),
        (7000, (1, 71)),
        (15_000, (1, 151)),
        // The last drop was at 19.9 s.
        (21_900, (1, 200)),
    ];
    assert_eq!(told, expected);
    assert_eq!(run.queues.finish(at(30_000)), []);
}

#[test]
fn the_end_tells_what_is_left() {
    let mut run = Run::new();
    run.note(&syn(0, peer(1)));
    assert_eq!(run.due(500), []);
    let drafts = run.queues.finish(at(600));
    assert_eq!(numbers(&drafts), [(1, 1)]);
    assert_eq!(drafts.first().map(|it| it.finding.time), Some(at(600)));
    assert_eq!(run.queues.finish(at(700)), []);
}

#[test]
fn a_client_that_tries_again_is_one_connection_and_one_episode() {
    let mut run = Run::new();
    // The pace of SYNs: 1, 2, 4, 8 s, a little late; then 16.
    let ids: Vec<_> = [0, 1030, 3050, 7100, 15_200, 31_500]
        .map(|ms| run.note(&syn(ms, peer(1))))
        .into();
    assert_eq!(ids, [1, 1, 1, 1, 1, 2]);
    let findings: Vec<_> = run.queues.finish(at(32_000));
    let told: Vec<_> = findings
        .iter()
        .map(|it| &it.finding)
        .map(|it| (it.id, it.syn_drops, it.connections, it.since, it.until))
        .collect();
    // The first was never asked for while it went on, and is told all the same.
    let expected = [
        (1, 5, 1, at(0), at(15_200)),
        (2, 1, 1, at(31_500), at(31_500)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn calm_ends_an_episode() {
    let table = [
        (9_999, 1),
        (10_000, 2),
        (60_000, 2),
        (-9_999, 1),
        (-60_000, 2),
    ];
    for (gap, expected) in table {
        for is_asked in [false, true] {
            let mut run = Run::new();
            run.note(&syn(0, peer(1)));
            if is_asked {
                assert_eq!(run.due(1000), [(1, 1)]);
            }
            assert_eq!(run.note(&syn(gap, peer(1))), expected, "{gap}");
        }
    }
}

#[test]
fn a_calm_episode_that_was_told_takes_no_memory() {
    let mut run = Run::new();
    run.note(&syn(0, peer(1)));
    assert_eq!(run.due(9_999), [(1, 1)]);
    assert_eq!(run.queues.episodes.len(), 1);
    assert_eq!(run.due(10_000), []);
    assert_eq!(run.queues.episodes.len(), 0);
}

#[test]
fn a_clock_that_is_set_back_silences_nothing() {
    let mut run = Run::new();
    run.note(&syn(0, peer(1)));
    assert_eq!(run.due(1000), [(1, 1)]);
    assert_eq!(run.note(&syn(-3_600_000, peer(1))), 2);
    assert_eq!(run.due(-3_599_000), [(2, 1)]);
}

#[test]
fn listeners_are_told_apart() {
    let first = syn(0, peer(1));
    let table = [
        ("the same", first.clone(), 1),
        (
            "another namespace",
            Failure {
                netns: 2,
                ..first.clone()
            },
            2,
        ),
        (
            "another of a SO_REUSEPORT group",
            Failure {
                inode: Some(8),
                ..first.clone()
            },
            2,
        ),
        (
            "the same, sent to elsewhere",
            Failure {
                local: Some(listener(81)),
                ..first.clone()
            },
            1,
        ),
    ];
    for (what, second, expected) in table {
        let mut run = Run::new();
        run.note(&first);
        assert_eq!(run.note(&second), expected, "{what}");
    }
    // Where no inode is known, the address tells.
    let unknown = Failure {
        inode: None,
        ..first
    };
    let mut run = Run::new();
    assert_eq!(run.note(&unknown), 1);
    assert_eq!(run.note(&unknown), 1);
    let elsewhere = Failure {
        local: Some(listener(81)),
        ..unknown
    };
    assert_eq!(run.note(&elsewhere), 2);
    assert_eq!(
        run.note(&Failure {
            local: None,
            ..elsewhere
        }),
        3
    );
    assert_eq!(run.due(1000), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn segments_are_counted_by_kind_and_peers_once() {
    let mut run = Run::new();
    for failure in [
        syn(0, peer(1)),
        syn(1000, peer(1)),
        ack(1100, peer(1)),
        ack(1200, peer(2)),
        reset(1300, peer(3)),
        // Another port is another connection.
        syn(1400, SocketAddr::new(peer(1).ip(), 40001)),
        Failure {
            remote: None,
            ..syn(1500, peer(9))
        },
    ] {
        run.note(&failure);
    }
    let told = run.only_finding().map(|it| {
        let drops = (it.syn_drops, it.ack_drops, it.resets);
        (drops, it.connections, it.connections_capped)
    });
    assert_eq!(told, Some(((4, 2, 1), 4, false)));
}

#[test]
fn a_finding_says_what_the_last_drop_said() {
    let worker = |pid| Process {
        pid,
        ..Process::default()
    };
    let mut run = Run::new();
    run.note(&Failure {
        process: Some((worker(5), Role::Acceptor)),
        holders: vec![worker(5), worker(6)],
        ..syn(0, peer(1))
    });
    run.note(&Failure {
        process: Some((worker(6), Role::Acceptor)),
        holders: vec![worker(6)],
        cause: Cause::RequestQueueFull,
        accept_queue: Some(Queue { len: 1, max: 4 }),
        request_queue: Some(Queue { len: 5, max: 4 }),
        ..syn(20, peer(1))
    });
    // Somewhat out of order, and nobody is left.
    run.note(&Failure {
        cause: Cause::RequestQueueFull,
        accept_queue: Some(Queue { len: 1, max: 4 }),
        request_queue: Some(Queue { len: 5, max: 4 }),
        ..syn(-1, peer(1))
    });
    let finding = run.only_finding();
    let told = finding.as_ref().map(|it| {
        let queues = (it.accept_queue, it.request_queue);
        (it.cause, queues, it.since, it.until)
    });
    let queues = (Queue { len: 1, max: 4 }, Queue { len: 5, max: 4 });
    assert_eq!(
        told,
        Some((Cause::RequestQueueFull, queues, at(-1), at(20)))
    );
    let who = finding.map(|it| (it.process, it.holders));
    assert_eq!(who, Some((Some(worker(6)), vec![worker(6)])));
}

#[test]
fn the_listeners_address_is_the_wildcard_if_packets_were_sent_to_several() {
    let v4 = |last| SocketAddr::from(([10, 0, 0, last], 80));
    let v6 = |last| SocketAddr::from((Ipv6Addr::from([0, 0, 0, 0, 0, 0, 0, last]), 80));
    let table = [
        (vec![v4(1), v4(1)], v4(1)),
        (vec![v4(1), v4(2), v4(1)], SocketAddr::from(([0; 4], 80))),
        (vec![v6(1), v6(2)], v6(0)),
        (vec![v4(1), v6(1), v4(1)], v6(0)),
    ];
    for (locals, expected) in table {
        let mut run = Run::new();
        for local in locals {
            run.note(&Failure {
                local: Some(local),
                ..syn(0, peer(1))
            });
        }
        assert_eq!(run.only_finding().and_then(|it| it.local), Some(expected));
    }
}

#[test]
fn final_acks_are_kept_by_peer() {
    let mut run = Run::new();
    let cookie = |ms, from| Failure {
        syncookie: true,
        ..ack(ms, from)
    };
    for failure in [
        syn(0, peer(1)),
        ack(100, peer(3)),
        ack(200, peer(2)),
        ack(1200, peer(2)),
        cookie(1300, peer(4)),
        // It tries anew; it was reset.
        ack(1400, peer(5)),
        syn(1500, peer(5)),
        ack(1600, peer(6)),
        reset(1700, peer(6)),
        // It tries anew and is let down again.
        ack(1800, peer(7)),
        syn(1900, peer(7)),
        ack(2000, peer(7)),
    ] {
        run.note(&failure);
    }
    let acked = |n, first, last, is_cookie| Acked {
        peer: peer(n),
        first: at(first),
        last: at(last),
        is_cookie,
    };
    let expected = vec![
        acked(2, 200, 1200, false),
        acked(3, 100, 100, false),
        acked(4, 1300, 1300, true),
        acked(7, 2000, 2000, false),
    ];
    assert_eq!(run.only().map(|draft| draft.acked), Some(expected));
}

/// Rates of arrivals and of accepts, and all accepts.
type Rate = (Option<f64>, Option<f64>, Option<u64>);

/// Drops, each with its time, its peer, the length of the accept queue and the
/// count of accepts; and what they amount to.
fn rates(drops: &[(i64, u32, u32, Option<u64>)]) -> Option<Rate> {
    let mut run = Run::new();
    for &(ms, from, len, accepts) in drops {
        let accept_queue = Some(Queue { len, max: 2 });
        let failure = Failure {
            accept_queue,
            ..syn(ms, peer(from))
        };
        run.note_accepts(&failure, accepts);
    }
    let finding = run.only_finding()?;
    Some((
        finding.arrivals_per_s,
        finding.accepts_per_s,
        finding.accepts,
    ))
}

#[test]
fn rates_are_those_of_the_last_seconds() {
    let table: &[(&str, &[_], Rate)] = &[
        ("one drop", &[(0, 1, 3, Some(50))], (None, None, Some(0))),
        (
            "too short",
            &[(0, 1, 3, Some(50)), (199, 2, 3, Some(52))],
            (None, None, Some(2)),
        ),
        (
            "long enough",
            &[(0, 1, 3, Some(50)), (200, 2, 3, Some(52))],
            (Some(15.0), Some(10.0), Some(2)),
        ),
        (
            "nobody accepts: the same client again, then a new one",
            &[
                (0, 1, 3, Some(0)),
                (1000, 1, 3, Some(0)),
                (2000, 2, 3, Some(0)),
            ],
            (Some(0.5), Some(0.0), Some(0)),
        ),
        (
            "the queue was shorter",
            &[(0, 1, 1, Some(0)), (1000, 1, 3, Some(4))],
            (Some(6.0), Some(4.0), Some(4)),
        ),
        (
            "the queue was longer than what accepts explain",
            &[(0, 1, 3, Some(0)), (1000, 1, 0, Some(1))],
            (Some(0.0), Some(1.0), Some(1)),
        ),
        (
            "accepts are not seen",
            &[(0, 1, 3, None), (1000, 2, 3, None)],
            (None, None, None),
        ),
        (
            "drops are rare: over the last gap",
            &[
                (0, 1, 3, Some(0)),
                (1000, 1, 3, Some(100)),
                (9000, 1, 3, Some(116)),
            ],
            (Some(2.0), Some(2.0), Some(116)),
        ),
        (
            "counts a little out of order",
            &[
                (0, 1, 3, Some(50)),
                (1000, 1, 3, Some(60)),
                (1001, 1, 3, Some(59)),
                (2000, 1, 3, Some(62)),
            ],
            (Some(6.0), Some(6.0), Some(12)),
        ),
        (
            "the kernel side forgot and counts anew",
            &[
                (0, 1, 3, Some(50)),
                (1000, 1, 3, Some(60)),
                (2000, 1, 3, Some(4)),
            ],
            (Some(7.0), Some(7.0), Some(14)),
        ),
    ];
    for (what, drops, expected) in table {
        assert_eq!(rates(drops).as_ref(), Some(expected), "{what}");
    }
}

#[test]
fn a_window_forgets_what_was_before_it() {
    // 100 accepts a second and 20 new peers a second for 20 s; then half of it.
    let drops: Vec<_> = (0..800_u32)
        .map(|n| {
            let slow = u64::from(n.saturating_sub(400));
            let accepts = u64::from(n) * 5 - slow * 5 / 2;
            let from = if n < 400 { n } else { 400 + n / 2 };
            (i64::from(n) * 50, from, 3, Some(accepts))
        })
        .collect();
    let near =
        |rate: Option<f64>, expected: f64| rate.is_some_and(|it| (it - expected).abs() < 1.0);
    for (length, arrivals, accepts) in [(400, 120.0, 100.0), (800, 60.0, 50.0)] {
        let told = rates(&drops[..length]);
        assert!(
            told.is_some_and(|it| near(it.0, arrivals) && near(it.1, accepts)),
            "{told:?}"
        );
    }
}

#[test]
fn a_flood_takes_bounded_memory_and_hides_no_other_listener() {
    let mut run = Run::new();
    let quiet = |ms, from| Failure {
        inode: Some(8),
        ..syn(ms, from)
    };
    let limit = u32::try_from(PEERS).unwrap_or(u32::MAX);
    run.note(&ack(0, peer(0)));
    for n in 0..3 * limit {
        let ms = i64::from(n / 100);
        run.note(&syn(ms, peer(n + 1)));
        if n % 1000 == 0 {
            run.note(&quiet(ms, peer(n)));
        }
        assert!(n % 4096 != 0 || run.peers() <= PEERS);
    }
    let drafts = run.queues.finish(at(5000));
    let [flooded, quiet] = &drafts[..] else {
        unreachable!("two listeners: {}", drafts.len());
    };
    let finding = &flooded.finding;
    assert!(finding.connections_capped);
    // Those of the quiet one took some of the room.
    let expected = u64::from(limit) - u64::from(limit.div_ceil(1000));
    assert!(finding.connections.abs_diff(expected) <= 2, "{finding:?}");
    assert_eq!(finding.syn_drops, u64::from(3 * limit));
    // It had a final ACK dropped, which the flood does not wash away.
    assert_eq!(flooded.acked.len(), 1);
    let quiet = &quiet.finding;
    let expected = u64::from((3 * limit).div_ceil(1000));
    assert_eq!(
        (quiet.connections, quiet.connections_capped),
        (expected, false)
    );
}

#[test]
fn final_acks_of_everybody_are_bounded_too() {
    let mut run = Run::new();
    for n in 0..u32::try_from(PEERS + 10).unwrap_or(u32::MAX) {
        run.note(&ack(0, peer(n)));
    }
    assert!(run.peers() <= PEERS);
    let told = run
        .only()
        .map(|it| (it.acked.len(), it.finding.connections));
    assert_eq!(told, Some((10, u64::try_from(PEERS).unwrap_or_default())));
}

#[test]
fn room_comes_back_when_episodes_end() {
    let mut run = Run::new();
    for round in 0..3 {
        let ms = round * 20_000;
        for n in 0..u32::try_from(PEERS / 2).unwrap_or(u32::MAX) {
            run.note(&syn(ms, peer(n)));
        }
        let drafts = run.queues.due(at(ms + 1000));
        assert!(drafts.iter().all(|it| !it.finding.connections_capped));
        assert_eq!(run.due(ms + 15_000), []);
        assert_eq!(run.peers(), 0);
    }
}

#[test]
fn listeners_are_bounded_and_the_calmest_goes_first() {
    let mut run = Run::new();
    let of = |ms, inode| Failure {
        inode: Some(inode),
        ..syn(ms, peer(1))
    };
    let limit = u64::try_from(LISTENERS).unwrap_or(u64::MAX);
    for inode in 1..=limit {
        assert_eq!(run.note(&of(0, inode)), inode);
    }
    assert_eq!(run.due(1000).len(), LISTENERS);
    // All but the third drop again, and then a new one appears.
    for inode in (1..=limit).filter(|inode| *inode != 3) {
        assert_eq!(run.note(&of(2000, inode)), inode);
    }
    assert_eq!(run.note(&of(2001, limit + 1)), limit + 1);
    assert_eq!(run.queues.episodes.len(), LISTENERS);
    assert_eq!(run.note(&of(2002, 4)), 4);
    // The third comes as a new episode; whom it displaces is told all the same.
    assert_eq!(run.note(&of(2003, 3)), limit + 2);
    assert_eq!(run.queues.episodes.len(), LISTENERS);
    let told = run.due(4000);
    assert_eq!(told.len(), LISTENERS + 1);
    assert!(told.is_sorted());
    assert!(run.queues.ended.is_empty());
}

use jiff::{SignedDuration, Timestamp};

use super::*;

const LISTENER: &str = "10.0.0.1:80";
const ELSEWHERE: &str = "192.0.2.9:4000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| unreachable!("{text}"))
}

fn row(state: u8, local: &str, remote: &str) -> Row {
    Row {
        state,
        local: address(local),
        remote: address(remote),
        is_ipv6: false,
        inode: 9,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer_ms: 0,
        drops: None,
    }
}

/// A peer whose final ACK was dropped again and again for `ms`.
fn acked(peer: &str, ms: i64) -> Acked {
    let first = Timestamp::UNIX_EPOCH;
    Acked {
        peer: address(peer),
        first,
        last: first + SignedDuration::from_millis(ms),
        is_cookie: false,
    }
}

fn count(rows: &[Row], local: &str, acked: &Acked, retries: Option<u32>) -> u64 {
    let listener = row(state::LISTEN, local, "0.0.0.0:0");
    let rows = [&[listener], rows].concat();
    let neighbours = Neighbours::default();
    ghosts(
        &rows,
        &neighbours,
        address(local),
        &[*acked],
        retries,
        |_| None,
    )
    .1
}

#[test]
fn a_client_elsewhere_is_judged_by_the_server() {
    const FIN_WAIT2: u8 = 5;
    const LAST_ACK: u8 = 9;
    let server = |state| vec![row(state, LISTENER, ELSEWHERE)];
    let table = [
        // It is still being tried.
        (server(state::SYN_RECV), 0, Some(5), 1),
        // It came in, be it accepted, waiting or over.
        (server(state::ESTABLISHED), 0, Some(5), 0),
        (server(state::CLOSE_WAIT), 40_000, Some(5), 0),
        (server(state::FIN_WAIT1), 40_000, Some(5), 0),
        (server(FIN_WAIT2), 40_000, Some(5), 0),
        (server(LAST_ACK), 40_000, Some(5), 0),
        (server(state::TIME_WAIT), 40_000, Some(5), 0),
        // A socket of ours that happens to have the port.
        (server(state::SYN_SENT), 40_000, Some(5), 1),
        // Nothing: it came in and is over, or the server may have given up.
        (vec![], 0, Some(5), 0),
        (vec![], 1010, Some(5), 0),
        (vec![], 3010, Some(5), 1),
        (vec![], 31_000, Some(5), 1),
        (vec![], 0, Some(1), 0),
        (vec![], 1010, Some(1), 1),
        (vec![], 0, Some(0), 1),
        (vec![], 1010, None, 0),
        (vec![], 3010, None, 1),
        // Another listener's, another client's.
        (
            vec![row(state::ESTABLISHED, "10.0.0.1:81", ELSEWHERE)],
            3010,
            None,
            1,
        ),
        (
            vec![row(state::ESTABLISHED, "10.0.0.2:80", ELSEWHERE)],
            3010,
            None,
            1,
        ),
        (
            vec![row(state::ESTABLISHED, LISTENER, "192.0.2.9:4001")],
            3010,
            None,
            1,
        ),
    ];
    for (rows, ms, retries, expected) in table {
        let told = count(&rows, LISTENER, &acked(ELSEWHERE, ms), retries);
        assert_eq!(told, expected, "{rows:?} {ms} {retries:?}");
    }
}

#[test]
fn of_a_syncookie_the_server_remembers_nothing() {
    let cookie = Acked {
        is_cookie: true,
        ..acked(ELSEWHERE, 0)
    };
    assert_eq!(count(&[], LISTENER, &cookie, Some(5)), 1);
    let known = [row(state::ESTABLISHED, LISTENER, ELSEWHERE)];
    assert_eq!(count(&known, LISTENER, &cookie, Some(5)), 0);
}

/// A client's socket that was closed, and whose FIN nobody has answered.
fn orphan(local: &str) -> Row {
    Row {
        inode: 0,
        ..row(state::FIN_WAIT1, local, LISTENER)
    }
}

#[test]
fn a_client_in_another_namespace_is_judged_by_its_own_socket() {
    let client = |state| row(state, ELSEWHERE, LISTENER);
    let server = |state| vec![row(state, LISTENER, ELSEWHERE)];
    // The time for which its final ACKs were dropped matters only where it is
    // judged by what the server shows.
    let (short, long) = (0, 40_000);
    let table = [
        (
            "believes",
            vec![client(state::ESTABLISHED)],
            vec![],
            short,
            1,
        ),
        (
            "believes, and the server tries",
            vec![client(state::ESTABLISHED)],
            server(state::SYN_RECV),
            short,
            1,
        ),
        (
            "is connected",
            vec![client(state::ESTABLISHED)],
            server(state::ESTABLISHED),
            long,
            0,
        ),
        (
            "has sent all it has",
            vec![client(state::FIN_WAIT1)],
            vec![],
            short,
            1,
        ),
        (
            "closed, and the server tries",
            vec![orphan(ELSEWHERE)],
            server(state::SYN_RECV),
            long,
            0,
        ),
        ("gave up", vec![], vec![], long, 0),
        (
            "is on another host, and has this address too",
            vec![],
            server(state::SYN_RECV),
            long,
            1,
        ),
        // It may lead here by way of NAT: judged by what the server shows.
        (
            "is connected to somewhere else, for all one can see",
            vec![row(state::ESTABLISHED, ELSEWHERE, "10.96.0.1:80")],
            vec![],
            short,
            0,
        ),
        (
            "is connected to somewhere else, for all one can see",
            vec![row(state::ESTABLISHED, ELSEWHERE, "10.96.0.1:80")],
            vec![],
            long,
            1,
        ),
        (
            "believes, and has a connection to somewhere else",
            vec![
                row(state::ESTABLISHED, ELSEWHERE, "10.96.0.1:80"),
                client(state::ESTABLISHED),
            ],
            vec![],
            short,
            1,
        ),
        (
            "has closed one socket and believes with another",
            vec![client(state::ESTABLISHED), orphan(ELSEWHERE)],
            vec![],
            short,
            1,
        ),
    ];
    for (what, there, rows, ms, expected) in table {
        let neighbours = Neighbours {
            addresses: HashSet::from([address(ELSEWHERE).ip()]),
            rows: there,
        };
        let acked = [acked(ELSEWHERE, ms)];
        let told = ghosts(
            &rows,
            &neighbours,
            address(LISTENER),
            &acked,
            Some(5),
            |_| None,
        );
        assert_eq!(told.1, expected, "{what}");
    }
}

#[test]
fn only_clients_that_are_not_here_are_wanted_elsewhere() {
    let server = |state| row(state, LISTENER, ELSEWHERE);
    let here = "10.0.0.1:4000";
    let table = [
        (ELSEWHERE, vec![], true),
        (ELSEWHERE, vec![server(state::SYN_RECV)], true),
        (ELSEWHERE, vec![server(state::ESTABLISHED)], false),
        ("127.0.0.1:4000", vec![], false),
        (here, vec![row(state::LISTEN, LISTENER, "0.0.0.0:0")], false),
        (here, vec![row(state::ESTABLISHED, here, LISTENER)], false),
    ];
    for (peer, rows, expected) in table {
        let peers = wanted(&rows, address(LISTENER), &[acked(peer, 0)]);
        let all = HashSet::from([address(peer)]);
        assert_eq!(peers == all, expected, "{peer} {rows:?}");
        assert_eq!(peers.is_empty(), !expected, "{peer} {rows:?}");
    }
}

#[test]
fn a_client_here_is_judged_by_its_own_socket() {
    const FIN_WAIT2: u8 = 5;
    let client = |state, local| row(state, local, LISTENER);
    let here = "10.0.0.1:4000";
    let server = |state| row(state, LISTENER, here);
    let table = [
        ("believes", here, vec![client(state::ESTABLISHED, here)], 1),
        (
            "believes, and the server tries",
            here,
            vec![client(state::ESTABLISHED, here), server(state::SYN_RECV)],
            1,
        ),
        (
            "is connected",
            here,
            vec![client(state::ESTABLISHED, here), server(state::ESTABLISHED)],
            0,
        ),
        (
            "has sent all it has",
            here,
            vec![client(state::FIN_WAIT1, here)],
            1,
        ),
        (
            "closed",
            here,
            vec![orphan(here), server(state::SYN_RECV)],
            0,
        ),
        ("was answered", here, vec![client(FIN_WAIT2, here)], 0),
        ("was let in", here, vec![client(state::TIME_WAIT, here)], 0),
        ("was closed", here, vec![client(state::CLOSE_WAIT, here)], 0),
        ("tries anew", here, vec![client(state::SYN_SENT, here)], 0),
        (
            "has an old socket too",
            here,
            vec![
                client(state::ESTABLISHED, here),
                client(state::TIME_WAIT, here),
            ],
            1,
        ),
        // The listener's own row shows that 10.0.0.1 is here.
        ("gave up", here, vec![], 0),
        (
            "gave up, is still tried",
            here,
            vec![server(state::SYN_RECV)],
            0,
        ),
        ("gave up on loopback", "127.0.0.1:4000", vec![], 0),
        ("gave up on IPv6 loopback", "[::1]:4000", vec![], 0),
        (
            "is connected elsewhere",
            here,
            vec![row(state::ESTABLISHED, here, "10.0.0.2:80")],
            0,
        ),
    ];
    for (what, peer, rows, expected) in table {
        let told = count(&rows, LISTENER, &acked(peer, 40_000), Some(5));
        assert_eq!(told, expected, "{what}");
    }
}

#[test]
fn a_wildcard_listener_has_every_address() {
    for (wildcard, at, client) in [
        ("0.0.0.0:80", "127.0.0.1:80", "127.0.0.1:4000"),
        ("[::]:80", "127.0.0.1:80", "127.0.0.1:4000"),
        ("[::]:80", "[::1]:80", "[::1]:4000"),
    ] {
        let acked = acked(client, 0);
        let client_row = row(state::ESTABLISHED, client, at);
        let server_row = row(state::ESTABLISHED, at, client);
        assert_eq!(count(&[client_row], wildcard, &acked, None), 1);
        assert_eq!(count(&[client_row, server_row], wildcard, &acked, None), 0);
    }
}

#[test]
fn all_are_counted_and_a_few_listed_with_their_processes() {
    let remote = |n| acked(&format!("192.0.2.{n}:4000"), 31_000);
    let mut all: Vec<_> = (1..=20).map(remote).collect();
    all.extend([acked("127.0.0.1:4000", 0), acked("127.0.0.1:4001", 0)]);
    let rows = [
        row(state::ESTABLISHED, "127.0.0.1:4000", "127.0.0.1:80"),
        // Nobody in sight has it.
        Row {
            inode: 10,
            ..row(state::FIN_WAIT1, "127.0.0.1:4001", "127.0.0.1:80")
        },
    ];
    let neighbours = Neighbours {
        addresses: HashSet::from([address(ELSEWHERE).ip()]),
        rows: vec![row(state::ESTABLISHED, "192.0.2.9:4000", LISTENER)],
    };
    let client = Process {
        pid: 77,
        ..Process::default()
    };
    let who = |row: &Row| (row.inode == 9).then(|| client.clone());
    let (listed, count) = ghosts(
        &rows,
        &neighbours,
        address("0.0.0.0:80"),
        &all,
        Some(5),
        who,
    );
    assert_eq!((listed.len(), count), (8, 22));
    let first: Vec<_> = listed.iter().take(4).collect();
    let expected = [
        (ELSEWHERE, Some(client.clone())),
        ("127.0.0.1:4000", Some(client.clone())),
        ("127.0.0.1:4001", None),
        ("192.0.2.1:4000", None),
    ]
    .map(|(peer, process)| Ghost {
        peer: address(peer),
        process,
    });
    assert_eq!(first, expected.iter().collect::<Vec<_>>());
    assert_eq!(
        ghosts(&rows, &neighbours, address(LISTENER), &[], None, |_| None),
        (vec![], 0)
    );
}

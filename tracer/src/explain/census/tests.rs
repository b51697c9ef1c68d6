use super::*;
use crate::{
    explain::finding::{Owner, Program},
    host::sock_diag::state,
};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 80);
const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3)), 80);
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(NOWHERE.ip())
}

fn row(state: u8, port: u16, remote: SocketAddr) -> Row {
    Row {
        state,
        local: SocketAddr::new(ip("10.0.0.1"), port),
        remote,
        is_ipv6: false,
        inode: 1,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer_ms: 0,
        drops: None,
    }
}

fn connect() -> Scope {
    Scope {
        netns: Netns::of_inode(1),
        kind: Kind::ConnectFailed,
        cause: Cause::PortsExhausted,
        protocol: 6,
        source: Some(ip("10.0.0.1")),
        destination: Some(SERVER),
        port: None,
        own: (0, 0),
    }
}

fn bind(address: &str, port: Option<u16>) -> Scope {
    Scope {
        kind: Kind::BindFailed,
        cause: if port.is_some() {
            Cause::PortInUse
        } else {
            Cause::PortsExhausted
        },
        source: Some(ip(address)),
        destination: None,
        port,
        ..connect()
    }
}

fn settings(low: u16, high: u16) -> Settings {
    Settings {
        port_range: Some((low, high)),
        ..Settings::default()
    }
}

fn process(pid: u32, comm: &str) -> Rc<Process> {
    Rc::new(Process {
        pid,
        comm: comm.into(),
        ..Process::default()
    })
}

/// Parts as `(state, ports, sockets)`, and free ports; every account adds up.
fn summary(scope: &Scope, settings: &Settings, rows: &[Row]) -> (Vec<(PortState, u32, u32)>, u32) {
    let who = process(7, "curl");
    let account = account(scope, settings, rows, |_| Who::Process(Rc::clone(&who)));
    let Some(account) = account else {
        return (Vec::new(), u32::MAX);
    };
    let taken: u32 = account.parts.iter().map(|part| part.ports).sum();
    assert_eq!(taken + account.free, account.range.usable);
    for part in &account.parts {
        let held: u32 = part.holders.iter().map(|holder| holder.ports).sum();
        assert_eq!(held, part.ports);
    }
    let parts = account.parts.iter();
    (
        parts
            .map(|part| (part.state, part.ports, part.sockets))
            .collect(),
        account.free,
    )
}

#[test]
fn what_takes_a_port_from_a_connect() {
    use PortState::*;
    let rows = [
        row(state::ESTABLISHED, 1000, SERVER),
        row(state::TIME_WAIT, 1001, SERVER),
        row(state::LISTEN, 1002, NOWHERE),
        // Accepted on that listener: the listener is what takes the port.
        row(state::ESTABLISHED, 1002, OTHER),
        row(state::BOUND_INACTIVE, 1003, NOWHERE),
        row(state::ESTABLISHED, 1004, OTHER),
        row(5, 1005, SERVER),
        row(state::SYN_SENT, 1006, SERVER),
        row(state::CLOSE_WAIT, 1007, SERVER),
        // Outside the range.
        row(state::ESTABLISHED, 999, SERVER),
        row(state::ESTABLISHED, 1010, SERVER),
    ];
    let (mut parts, free) = summary(&connect(), &settings(1000, 1009), &rows);
    parts.sort();
    assert_eq!(
        parts,
        [
            (Established, 1, 1),
            (CloseWait, 1, 1),
            (SynSent, 1, 1),
            (Closing, 1, 1),
            (TimeWait, 1, 1),
            (Listening, 1, 1),
            (BoundUnused, 1, 1),
            (BoundElsewhere, 1, 1)
        ]
    );
    assert_eq!(free, 2);
}

#[test]
fn another_source_is_another_connection() {
    let mut other = row(state::ESTABLISHED, 1000, SERVER);
    other.local.set_ip(ip("10.0.0.9"));
    let (parts, _) = summary(&connect(), &settings(1000, 1001), &[other]);
    assert_eq!(parts, [(PortState::BoundElsewhere, 1, 1)]);
}

#[test]
fn the_port_that_an_odd_range_leaves_out_is_free() {
    let rows = [
        row(state::ESTABLISHED, 1000, SERVER),
        row(state::ESTABLISHED, 1001, SERVER),
        row(state::ESTABLISHED, 1002, OTHER),
    ];
    let odd = summary(&connect(), &settings(1000, 1002), &rows);
    assert_eq!(odd, (vec![(PortState::Established, 2, 2)], 1));
    let even = summary(&connect(), &settings(1001, 1002), &rows);
    assert_eq!(
        even,
        (
            vec![
                (PortState::Established, 1, 1),
                (PortState::BoundElsewhere, 1, 1)
            ],
            0
        )
    );
}

#[test]
fn bind_is_about_local_addresses() {
    let mut elsewhere = row(state::ESTABLISHED, 1001, SERVER);
    elsewhere.local.set_ip(ip("10.0.0.9"));
    let rows = [row(state::TIME_WAIT, 1000, SERVER), elsewhere];
    let settings = settings(1000, 1001);
    let parts = |address| summary(&bind(address, None), &settings, &rows);
    assert_eq!(parts("10.0.0.1"), (vec![(PortState::TimeWait, 1, 1)], 1));
    let both = vec![(PortState::Established, 1, 1), (PortState::TimeWait, 1, 1)];
    assert_eq!(parts("0.0.0.0"), (both.clone(), 0));
    assert_eq!(parts("::"), (both, 0));
    assert_eq!(parts("::1"), (vec![], 2));
    assert_eq!(parts("10.0.0.8"), (vec![], 2));
}

#[test]
fn one_port_may_have_many_sockets() {
    let rows: Vec<Row> = (1..=40)
        .map(|client| {
            let remote = SocketAddr::new(ip("10.0.0.7"), 50_000 + client);
            row(state::TIME_WAIT, 80, remote)
        })
        .collect();
    let restart = bind("0.0.0.0", Some(80));
    assert_eq!(
        summary(&restart, &settings(1000, 1001), &rows),
        (vec![(PortState::TimeWait, 1, 40)], 0)
    );
    // A port that is reserved can still be asked for.
    let mut reserved = settings(1, 1000);
    reserved.reserved_ports = vec![(80, 80)];
    assert_eq!(summary(&restart, &reserved, &rows).1, 0);
}

#[test]
fn a_clash_is_about_one_connection() {
    let clash = Scope {
        cause: Cause::AddressTaken,
        port: Some(1000),
        ..connect()
    };
    let rows = [
        row(state::TIME_WAIT, 1000, SERVER),
        row(state::ESTABLISHED, 1000, OTHER),
    ];
    assert_eq!(
        summary(&clash, &settings(1000, 1001), &rows),
        (vec![(PortState::TimeWait, 1, 1)], 0)
    );
}

#[test]
fn ranges() {
    let range = |scope: &Scope, settings: &Settings| {
        account(scope, settings, &[], |_| Who::NotAccepted).map(|account| {
            let range = account.range;
            (
                range.low,
                range.high,
                range.is_own,
                range.reserved,
                account.free,
            )
        })
    };
    let mut settings = settings(1000, 1009);
    settings.reserved_ports = vec![(1, 3), (1005, 1006), (1009, 2000)];
    assert_eq!(
        range(&connect(), &settings),
        Some((1000, 1009, false, 3, 7))
    );
    let own = |low, high| Scope {
        own: (low, high),
        ..connect()
    };
    settings.reserved_ports.clear();
    for (scope, low, high) in [
        (own(1002, 1003), 1002, 1003),
        (own(1002, 0), 1002, 1009),
        (own(0, 1003), 1000, 1003),
        // Outside: the namespace's own end stays.
        (own(500, 1003), 1000, 1003),
    ] {
        let usable = u32::from(high - low) + 1;
        assert_eq!(
            range(&scope, &settings),
            Some((low, high, true, 0, usable)),
            "{:?}",
            scope.own
        );
    }
    assert_eq!(range(&connect(), &Settings::default()), None);
    let whole = super::tests::settings(0, 65535);
    assert_eq!(range(&connect(), &whole).map(|range| range.4), Some(65536));
}

#[test]
fn holders_are_programs() {
    let curls: Vec<_> = (0..20).map(|n| process(100 + n, "curl")).collect();
    let nginx = process(7, "nginx");
    let rows: Vec<Row> = (0..100)
        .map(|n| row(state::TIME_WAIT, 1000 + n, SERVER))
        .collect();
    let account = account(&connect(), &settings(1000, 1099), &rows, |row| {
        match row.local.port() - 1000 {
            0..=9 => Who::BeforeTracer,
            10..=39 => Who::Process(Rc::clone(&nginx)),
            n => Who::Process(Rc::clone(&curls[usize::from(n % 20)])),
        }
    });
    let parts = account.map(|account| account.parts).unwrap_or_default();
    let holders: Vec<_> = parts[0]
        .holders
        .iter()
        .map(|holder| match &holder.owner {
            Owner::Processes(program) => (program.comm.clone(), program.count, holder.ports),
            other => (other.name().into(), 0, holder.ports),
        })
        .collect();
    assert_eq!(
        holders,
        [
            (b"curl".to_vec(), 20, 60),
            (b"nginx".to_vec(), 1, 30),
            (b"before_tracer".to_vec(), 0, 10)
        ]
    );
    let Owner::Processes(curl) = &parts[0].holders[0].owner else {
        unreachable!("curl comes first")
    };
    assert_eq!(curl.named.len(), Program::NAMED);
    assert_eq!(curl.named[0].1, 3);
}

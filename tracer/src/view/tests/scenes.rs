//! Records as they come in well-known failures.

use std::{net::SocketAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tracer_common::{Cause, Kind};

use crate::{
    explain::{
        advice::{on_census, on_queue, tests::dice::Dice},
        census::Scope,
        finding::{
            Asked, Census, Ghost, Holder, Owner, Part, PortState, Program, QueueFinding, Range,
        },
    },
    host::{
        clock::Clocks,
        plan::{Exactness, Purpose, Tier},
        settings::Settings,
    },
    model::{Container, Failure, Netns, Place, Process, Queue, Role},
    probe::{By, Served},
    reconcile::{Pair, Row},
    record::{Record, Totals},
    source::counters::Health,
    startup::Startup,
    view::state::{Scene, State},
};

/// 03:00:00 and so many milliseconds.
pub(super) fn at(ms: i64) -> Timestamp {
    let start = Timestamp::from_second(1_795_230_000).unwrap_or_default();
    start
        .saturating_add(SignedDuration::from_millis(ms))
        .unwrap_or_default()
}

pub(super) fn process(comm: &[u8], pid: u32) -> Process {
    Process {
        pid,
        comm: comm.to_vec(),
        exe: Some([b"/usr/bin/", comm].concat()),
        cmdline: Some([comm, b" --verbose 10.9.0.2"].concat()),
        uid: Some(1000),
        place: match pid {
            15_707 => Some(Arc::new(Place {
                container: Some(Container {
                    id: "3f".repeat(32),
                    runtime: Some("docker".into()),
                    name: None,
                }),
                ..Place::default()
            })),
            15_631 => Some(Arc::new(Place {
                unit: Some("api.service".to_owned()),
                ..Place::default()
            })),
            _ => None,
        },
        ..Process::default()
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub(super) fn connect(ms: i64, who: Process) -> Failure {
    Failure {
        time: at(ms),
        process: Some((who, Role::Caller)),
        local: address("10.9.0.1:0"),
        remote: address("10.9.0.2:5432"),
        netns: 4_026_532_177,
        census: Some(1),
        ..Failure::example()
    }
}

pub(super) fn drop(ms: i64, kind: Kind, who: Process, port: u16) -> Failure {
    Failure {
        time: at(ms),
        kind,
        cause: Cause::AcceptQueueFull,
        errno: None,
        holders: vec![who.clone()],
        process: Some((who, Role::Listener)),
        local: address("10.9.0.2:8080"),
        remote: address("10.9.0.1:40000").map(|mut peer| {
            peer.set_port(port);
            peer
        }),
        netns: 4_026_532_246,
        inode: Some(77),
        accept_queue: Some(Queue { len: 3, max: 2 }),
        request_queue: Some(Queue { len: 0, max: 2 }),
        census: None,
        queue: Some(2),
        ..Failure::example()
    }
}

fn settings() -> Settings {
    Settings {
        port_range: Some((40000, 40199)),
        tw_reuse: Some(2),
        tw_reuse_delay: Some(1000),
        timestamps: Some(1),
        somaxconn: Some(4096),
        max_syn_backlog: Some(512),
        syncookies: Some(1),
        abort_on_overflow: Some(0),
        has_own_range: true,
        ..Settings::default()
    }
}

fn part(state: PortState, ports: u32, who: Process) -> Part {
    let owner = Owner::Processes(Program {
        comm: who.comm.clone(),
        count: 1,
        named: vec![(who, ports)],
    });
    let sockets = ports;
    Part {
        state,
        ports,
        sockets,
        holders: vec![Holder {
            owner,
            ports,
            sockets,
        }],
    }
}

pub(super) fn census(who: &Process) -> Census {
    let mut census = Census {
        id: 1,
        time: at(900),
        parts: vec![
            part(PortState::TimeWait, 150, who.clone()),
            part(PortState::Established, 46, process(b"reports", 812)),
            part(PortState::BoundUnused, 3, process(b"agent", 813)),
        ],
        free: 1,
        range: Range {
            low: 40000,
            high: 40199,
            is_own: false,
            reserved: 0,
            usable: 200,
        },
        source: address("10.9.0.1:0").map(|address| address.ip()),
        destination: address("10.9.0.2:5432"),
        kind: Kind::ConnectFailed,
        cause: Cause::PortsExhausted,
        protocol: 6,
        settings: settings(),
        ..Dice(1).census()
    };
    census.advice = on_census(&census);
    census
}

pub(super) fn queue(who: &Process) -> QueueFinding {
    let mut finding = QueueFinding {
        id: 2,
        time: at(4000),
        netns: 4_026_532_246,
        netns_cookie: 0,
        netns_name: None,
        local: address("10.9.0.2:8080"),
        inode: 77,
        cause: Cause::AcceptQueueFull,
        process: Some(who.clone()),
        holders: vec![who.clone()],
        since: at(1000),
        until: at(3900),
        accept_queue: Queue { len: 3, max: 2 },
        request_queue: Queue { len: 0, max: 2 },
        asked: Some(Asked {
            backlog: 2,
            somaxconn: 4096,
        }),
        syn_drops: 8,
        ack_drops: 9,
        resets: 0,
        connections: 13,
        connections_capped: false,
        arrivals_per_s: Some(4.2),
        accepts_per_s: Some(0.4),
        accepts: Some(2),
        accept_failures: 0,
        accept_errno: None,
        disagreement: None,
        ghosts: (0..3)
            .map(|number| Ghost {
                peer: SocketAddr::from(([10, 9, 0, 1], 40_010 + number)),
                process: Some(process(b"crowd", 24_871)),
            })
            .collect(),
        ghost_count: 9,
        settings: settings(),
        advice: Vec::new(),
    };
    finding.advice = on_queue(&finding);
    finding
}

pub(super) fn startup() -> Startup {
    let purposes = [
        (Purpose::Connect, Tier::Function),
        (Purpose::Bind, Tier::Function),
        (Purpose::SynDrop, Tier::Portable),
    ];
    Startup {
        unmatched: Vec::new(),
        time: at(0),
        kernel: "6.12.48".to_owned(),
        boot_id: "b".to_owned(),
        host: "web-7".to_owned(),
        served: purposes
            .into_iter()
            .map(|(purpose, tier)| Served {
                purpose,
                by: Some(By {
                    tier,
                    targets: vec!["fexit inet_hash_connect".to_owned()],
                    exactness: Exactness::Exact,
                    note: None,
                }),
                reason: None,
            })
            .collect(),
        degradations: vec![
            "syn_drop: predicted just before the kernel decides (near-exact); allocation, routing and security drops are not seen".to_owned(),
        ],
        clocks: Clocks::default(),
        netns: None,
        settings: Settings::default(),
        listening: None,
    }
}

pub(super) fn totals(counted: u64, described: u64, kernel: u64, meanwhile: u64) -> Totals {
    let pair = Pair {
        tracer: counted,
        kernel: Some(kernel),
    };
    Totals {
        time: at(5000),
        since: at(0),
        is_final: false,
        health: Health {
            counted,
            described,
            ..Health::default()
        },
        malformed: 0,
        counts: Default::default(),
        by: Vec::new(),
        rows: vec![Row {
            netns: Netns::of_inode(1),
            listen_overflows: pair,
            listen_drops: pair,
            req_qfull_drop: Pair {
                tracer: 0,
                kernel: Some(0),
            },
            unavailable: None,
            explanation: None,
        }],
        meanwhile,
        missed: Vec::new(),
        filtered_in_kernel: 0,
        netns_names: Default::default(),
    }
}

/// Begun, and nothing has happened.
pub(super) fn nothing() -> State {
    let mut state = State::new(Scene {
        capture: Some("/var/log/tracer.zst".to_owned()),
        only: None,
        is_replay: false,
        zone: TimeZone::UTC,
        has_colour: true,
    });
    state.record(Record::Startup(&startup()));
    state.tick(at(5000));
    state
}

/// The same, where most has no hook.
pub(super) fn blind() -> State {
    let mut startup = startup();
    let is_bind = |served: &Served| served.purpose == Purpose::Bind;
    startup.served.retain(is_bind);
    let others = Purpose::ALL.into_iter().filter(|it| *it != Purpose::Bind);
    startup.served.extend(others.map(|purpose| Served {
        purpose,
        by: None,
        reason: None,
    }));
    let mut state = nothing();
    state.record(Record::Startup(&startup));
    state.tick(at(5000));
    state
}

/// Ports run out.
pub(super) fn exhausted() -> State {
    let mut state = nothing();
    let who = process(b"checkout", 15_707);
    for ms in (900..5000).step_by(130) {
        state.record(Record::Failure(&connect(ms, who.clone())));
    }
    state.record(Record::Census(&census(&who)));
    state
}

/// A queue runs over, too.
pub(super) fn overflow() -> State {
    let mut state = exhausted();
    let who = process(b"api", 15_631);
    for (number, ms) in (1000..3900).step_by(171).enumerate() {
        let kind = if number % 2 == 0 {
            Kind::AckDropped
        } else {
            Kind::SynDropped
        };
        let port = u16::try_from(40_010 + number).unwrap_or(1);
        state.record(Record::Failure(&drop(ms, kind, who.clone(), port)));
    }
    state.record(Record::Queue(&queue(&who)));
    state.record(Record::Totals(&totals(49, 49, 49, 0)));
    state
}

/// More than can be described.
pub(super) fn flood() -> State {
    let mut state = nothing();
    let who = process(b"httpd", 9000);
    for number in 0..20_000_u16 {
        let ms = i64::from(number / 5);
        let kind = Kind::SynDropped;
        state.record(Record::Failure(&drop(ms, kind, who.clone(), number)));
    }
    state.record(Record::Lost(at(2000), 400_000));
    state.record(Record::Lost(at(3000), 580_000));
    state.record(Record::Totals(&totals(1_000_000, 20_000, 1_000_031, 57)));
    state.say("tracer: /var/log/tracer.zst: records come faster than they can be written; those left out are counted in gap records");
    state
}

/// So many that some must share a row, and some make room.
pub(super) fn many() -> State {
    let mut state = nothing();
    for number in 0..600_u32 {
        let comm = format!("worker-{}", number % 400);
        let ms = i64::from(number) * 8;
        let mut failure = connect(ms, process(comm.as_bytes(), 1000 + number));
        let [_, _, third, fourth] = number.to_be_bytes();
        failure.remote = Some(SocketAddr::from(([10, 1, third, fourth], 443)));
        state.record(Record::Failure(&failure));
    }
    for number in 0..1000 {
        let failure = connect(4000 + i64::from(number), process(b"curl", 20_000 + number));
        state.record(Record::Failure(&failure));
    }
    state
}

/// Names that would drive a terminal.
pub(super) const HOSTILE: [&[u8]; 6] = [
    b"\x1b]52;c;AAAA\x07",
    b"\x1b[2J\x1b[31m",
    "\u{202e}gpj.exe".as_bytes(),
    b"\xff\xfe\x80",
    b"a\rb\nc\td\x7f",
    "\u{9b}2J\u{200b}".as_bytes(),
];

pub(super) fn hostile() -> State {
    let mut state = nothing();
    for (number, comm) in HOSTILE.into_iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(0);
        let who = process(comm, 100 + number);
        let ms = 1000 + i64::from(number) * 300;
        state.record(Record::Failure(&connect(ms, who.clone())));
        state.record(Record::Census(&census(&who)));
        let mut failure = drop(ms, Kind::SynDropped, who.clone(), 1);
        failure.inode = Some(number.into());
        state.record(Record::Failure(&failure));
        state.record(Record::Queue(&queue(&who)));
    }
    let scope = Scope {
        netns: Netns::of_inode(1),
        kind: Kind::ConnectFailed,
        cause: Cause::PortsExhausted,
        protocol: 6,
        source: None,
        destination: None,
        port: None,
        own: (0, 0),
    };
    let why = "gone: \u{1b}]0;x\u{7}";
    state.record(Record::NoCensus(at(4000), 1, &scope, why));
    state.say("tracer: kernel: \u{1b}[1m\u{2028}");
    state
}

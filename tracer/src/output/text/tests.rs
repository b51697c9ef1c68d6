use std::net::SocketAddr;

use super::*;
use crate::model::Role;

fn plain() -> Style {
    Style {
        colour: false,
        header: false,
        zone: TimeZone::UTC,
    }
}

fn process(pid: u32, comm: &[u8]) -> Process {
    Process {
        pid,
        comm: comm.to_vec(),
        ..Process::default()
    }
}

fn connect_failed() -> Failure {
    Failure {
        process: Some((process(42, b"checkout"), Role::Caller)),
        ..Failure::example()
    }
}

fn syn_dropped() -> Failure {
    Failure {
        kind: Kind::SynDropped,
        cause: Cause::AcceptQueueFull,
        errno: None,
        process: Some((process(7, b"api"), Role::Acceptor)),
        holders: vec![process(7, b"api"), process(8, b"api"), process(9, b"api")],
        local: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 443))),
        remote: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 50000))),
        accept_queue: Some(Queue { len: 129, max: 128 }),
        request_queue: Some(Queue { len: 3, max: 128 }),
        ..connect_failed()
    }
}

#[test]
fn a_call_points_to_its_destination() {
    assert_eq!(
        plain().failure(&connect_failed()),
        "00:00:00.000  checkout[42]            connect failed  ports exhausted       10.0.0.1:0 → 10.0.0.2:5432"
    );
}

#[test]
fn a_drop_shows_holders_and_queue() {
    assert_eq!(
        plain().failure(&syn_dropped()),
        "00:00:00.000  api[7] +2               SYN dropped     accept queue full     [::1]:443 ← [::1]:50000                  129/128"
    );
    let requests = Failure {
        cause: Cause::RequestQueueFull,
        ..syn_dropped()
    };
    assert!(plain().failure(&requests).ends_with("requests 3/128"));
}

#[test]
fn who_it_is_when_nobody_is_known() {
    let unknown = Failure {
        process: None,
        ..connect_failed()
    };
    assert!(plain().failure(&unknown).contains("(unknown)"));
    let kernel = (Process::kernel(b"kworker/0:1"), Role::Caller);
    let kernel = Failure {
        process: Some(kernel),
        ..connect_failed()
    };
    assert!(plain().failure(&kernel).contains("[kworker/0:1] (kernel)"));
}

#[test]
fn where_it_happened() {
    use crate::model::{Container, Place};
    let place = |container: Option<&str>, unit: Option<&str>| Place {
        container: container.map(|id| Container {
            id: id.to_owned(),
            runtime: None,
            name: None,
        }),
        unit: unit.map(str::to_owned),
        ..Place::default()
    };
    let ends = |place: Place, netns: Option<&str>| {
        let process = Process {
            place: Some(place.into()),
            ..process(7, b"python3")
        };
        let failure = Failure {
            process: Some((process, Role::Acceptor)),
            netns_name: netns.map(Into::into),
            ..syn_dropped()
        };
        let line = plain().failure(&failure);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let (_, end) = line.split_once("129/128").unwrap_or_default();
        end.trim_start().to_owned()
    };
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(
        ends(place(Some(id), Some("a.service")), None),
        "@0123456789ab"
    );
    assert_eq!(
        ends(place(Some("größe\u{9b}"), None), None),
        "@größe\\u{9b}"
    );
    assert_eq!(ends(place(None, Some("billing.service")), None), "@billing");
    assert_eq!(ends(place(None, Some("python3-x.service")), None), "");
    assert_eq!(ends(place(None, Some("session-1.scope")), None), "");
    assert_eq!(ends(place(None, None), Some("blue")), "netns blue");
    assert_eq!(ends(place(Some("web"), None), Some("web")), "@web");
    assert_eq!(
        ends(place(Some("web"), None), Some("b\n")),
        r"@web netns b\x0a"
    );
}

#[test]
fn a_hostile_name_cannot_reach_the_terminal() {
    let hostile = process(1, b"\x1b]0;x\x07\xff");
    let failure = Failure {
        process: Some((hostile, Role::Caller)),
        ..connect_failed()
    };
    let line = plain().failure(&failure);
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let coloured = Style {
        colour: true,
        ..plain()
    }
    .failure(&failure);
    assert!(
        !coloured.replace("\x1b[", "").chars().any(char::is_control),
        "{coloured:?}"
    );
}

#[test]
fn colour_is_only_paint() {
    let coloured = Style {
        colour: true,
        ..plain()
    }
    .failure(&syn_dropped());
    let mut stripped = coloured;
    for code in [BOLD, RED, YELLOW, DIM, RESET] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain().failure(&syn_dropped()));
}

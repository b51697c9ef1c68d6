use std::net::IpAddr;

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::{
    model::{Container, Failure, Place, Process, Role},
    output::json,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    filter: Filter,
}

/// A filter as it is typed.
pub(super) fn typed(line: &str) -> Option<Filter> {
    let words = ["tracer"].into_iter().chain(line.split_whitespace());
    Some(Line::try_parse_from(words).ok()?.filter)
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn process(pid: u32, comm: &str, uid: u32, place: Place) -> Process {
    Process {
        pid,
        comm: comm.into(),
        uid: Some(uid),
        place: Some(place.into()),
        ..Process::default()
    }
}

/// checkout (pid 10), of a unit, cannot connect to 10.0.0.2:5432.
fn call() -> Failure {
    let place = Place {
        cgroup: "/system.slice/checkout.service".into(),
        unit: Some("checkout.service".into()),
        ..Place::default()
    };
    Failure {
        process: Some((process(10, "checkout", 1000, place), Role::Caller)),
        ..Failure::example()
    }
}

/// nginx (20) in a container should accept, a process of another name (21) could.
fn drop() -> Failure {
    let place = |name: Option<&str>| Place {
        cgroup: format!("/docker/{ID}"),
        container: Some(Container {
            id: ID.into(),
            runtime: None,
            name: name.map(str::to_owned),
        }),
        ..Place::default()
    };
    let nginx = process(20, "nginx", 33, place(Some("web")));
    let other = process(21, "a-rather-long-n", 34, place(None));
    Failure {
        kind: Kind::SynDropped,
        cause: Cause::AcceptQueueFull,
        errno: None,
        process: Some((nginx.clone(), Role::Acceptor)),
        holders: vec![nginx, other],
        netns: 4_026_532_000,
        netns_name: Some("blue".into()),
        local: "192.0.2.1:443".parse().ok(),
        remote: "[::ffff:10.9.9.9]:50000".parse().ok(),
        ..Failure::example()
    }
}

/// The same whether it just happened or is read from a record.
fn wants(filter: &Filter, failure: &Failure) -> bool {
    let mut line = Vec::new();
    json::event::write(failure, &mut line);
    let record: Value = serde_json::from_slice(&line).unwrap_or_default();
    let wanted = filter.wants(&Facts::from(failure));
    assert_eq!(filter.wants(&Facts::from(&record)), wanted, "{filter:?}");
    wanted
}

#[test]
fn what_is_wanted() {
    for (line, of_call, of_drop) in [
        ("", true, true),
        ("--pid 10", true, false),
        ("--pid 20", false, true),
        ("--pid 21", false, true),
        ("--pid 10 --pid 21", true, true),
        ("--pid 1", false, false),
        ("--comm nginx", false, true),
        ("--comm nginy", false, false),
        ("--comm ngin", false, false),
        ("--comm a-rather-long-name-that-is-cut", false, true),
        ("--comm a-rather", false, false),
        ("--uid 1000", true, false),
        ("--uid 33 --uid 1000", true, true),
        // One process has to be as asked for, not one each.
        ("--uid 33 --pid 20", false, true),
        ("--uid 34 --pid 20", false, false),
        ("--port 5432", true, false),
        ("--port 443", false, true),
        ("--port 50000", false, true),
        ("--port 80", false, false),
        ("--dst 10.0.0.0/8", true, false),
        ("--dst 10.0.0.2", true, false),
        ("--dst 10.0.0.3", false, false),
        ("--dst 192.0.2.0/24", false, true),
        ("--dst 0.0.0.0/0", true, true),
        ("--dst ::/0", false, false),
        ("--netns blue", false, true),
        ("--netns blu", false, false),
        ("--netns 4026532000", false, true),
        ("--netns 1 --netns blue", true, true),
        ("--cgroup /", true, true),
        ("--cgroup /system.slice", true, false),
        ("--cgroup /system.slice/", true, false),
        ("--cgroup /system", false, false),
        ("--cgroup /docker", false, true),
        ("--container web", false, true),
        ("--container we", false, false),
        ("--container 0123456789ab", false, true),
        ("--container 123", false, false),
        ("--unit checkout", true, false),
        ("--unit checkout.service", true, false),
        ("--unit check", false, false),
        ("--kind syn_dropped", false, true),
        ("--kind syn_dropped --kind connect_failed", true, true),
        ("--cause ports_exhausted", true, false),
        (
            "--kind connect_failed --cause accept_queue_full",
            false,
            false,
        ),
        (
            "--kind syn_dropped --comm nginx --port 443 --container web --netns blue",
            false,
            true,
        ),
        (
            "--kind syn_dropped --comm nginx --port 444 --container web --netns blue",
            false,
            false,
        ),
    ] {
        let filter = typed(line);
        let found = filter
            .as_ref()
            .map(|filter| (wants(filter, &call()), wants(filter, &drop())));
        assert_eq!(found, Some((of_call, of_drop)), "{line}");
        assert_eq!(filter.map(|filter| filter.is_off()), Some(line.is_empty()));
    }
}

#[test]
fn of_nobody_known() {
    let failure = Failure {
        process: None,
        ..call()
    };
    for (line, expected) in [
        ("--pid 10", false),
        ("--cgroup /", false),
        ("--port 5432", true),
    ] {
        let found = typed(line).map(|filter| wants(&filter, &failure));
        assert_eq!(found, Some(expected), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "--pid -1",
        "--uid x",
        "--port 0",
        "--port 65536",
        "--dst",
        "--dst 10.0.0",
        "--dst 10.0.0.0/33",
        "--dst ::/129",
        "--dst 10.0.0.0/",
        "--netns 99999999999",
        "--cgroup system.slice",
        "--kind drops",
        "--cause full",
    ] {
        assert_eq!(typed(line), None, "{line}");
    }
}

#[test]
fn networks() {
    for (network, ip, expected) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.1.2.3/8", "10.9.9.9", true),
        ("10.0.0.0/31", "10.0.0.1", true),
        ("10.0.0.0/31", "10.0.0.2", false),
        ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ("::ffff:10.0.0.0/104", "10.0.0.1", true),
        ("::ffff:10.0.0.1", "10.0.0.1", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::", false),
        ("::1", "::1", true),
        ("::1", "::2", false),
        ("::/0", "10.0.0.1", false),
    ] {
        let ip: Option<IpAddr> = ip.parse().ok();
        let found = Cidr::parse(network).ok().zip(ip);
        let found = found.map(|(network, ip)| network.has(ip));
        assert_eq!(found, Some(expected), "{network} {ip:?}");
        let told = Cidr::parse(network).map(|network| network.to_string());
        assert_eq!(
            told.and_then(|told| Cidr::parse(&told)),
            Cidr::parse(network)
        );
    }
}

#[test]
fn what_the_kernel_side_is_told() {
    let everything = tracer_common::Filter::EVERYTHING;
    let told = |line: &str| typed(line).map(|filter| filter.in_kernel());
    let some = |values: &[u32]| {
        let mut all = [0; FILTER_VALUES];
        all[..values.len()].copy_from_slice(values);
        all
    };
    assert_eq!(told("--comm x --port 1 --netns blue"), Some(everything));
    assert_eq!(
        told("--kind connect_failed --kind syn_dropped --cause other"),
        Some(tracer_common::Filter {
            kinds: 1 << 1 | 1 << 4,
            causes: 1 << 10,
            ..everything
        })
    );
    assert_eq!(
        told("--pid 7 --pid 8 --netns 9"),
        Some(tracer_common::Filter {
            netns: some(&[9]),
            callers: some(&[7, 8]),
            ..everything
        })
    );
    // What it cannot tell apart, or has no room for, is left to this side.
    for line in ["--netns 9 --netns blue", "--pid 0 --pid 1"] {
        assert_eq!(told(line), Some(everything), "{line}");
    }
    let many: String = (1..=9).map(|pid| format!("--pid {pid} ")).collect();
    assert_eq!(told(&many), Some(everything));
}

#[test]
fn a_queue_is_of_the_kinds_that_it_dropped() {
    let record = serde_json::json!({
        "cause": "accept_queue_full", "local": "192.0.2.1:443", "netns": 7,
        "drops": { "syn_dropped": 0, "ack_dropped": 2, "overflow_reset": 0 },
        "process": null, "holders": [{ "pid": 7, "comm": 3 }, "x"],
    });
    for (line, expected) in [
        ("--kind ack_dropped", true),
        ("--kind syn_dropped", false),
        ("--dst 192.0.2.1 --port 443", true),
        ("--pid 7 --netns 7", true),
        ("--pid 8", false),
    ] {
        let found = typed(line).map(|filter| filter.wants(&Facts::from(&record)));
        assert_eq!(found, Some(expected), "{line}");
    }
}

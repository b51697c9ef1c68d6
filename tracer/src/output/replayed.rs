//! What went through a file is what it was: as JSON, and as text.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tracer_common::{Cause, Family, Hook, Kind};

use super::{json, text};
use crate::{
    explain::{
        advice::{on_census, on_queue, tests::dice::Dice},
        finding::{Asked, BoundUnused},
    },
    host::plan::Purpose,
    model::{
        Container, Failure, Netns, Place, Pod, Process, Queue, Role, errno_name, protocol_name,
    },
    probe::Missed,
    reconcile::{Pair, Row},
    record::{By, Listener, Totals},
    replay::parse::{Parsed, Unread, parse},
    source::counters::Health,
};

/// A record as JSON, read again.
fn reread(record: &Value) -> Result<Parsed, Unread> {
    let line = record.to_string();
    parse(&serde_json::from_str(&line).unwrap_or_default())
}

/// An event as JSON.
pub(crate) fn line(failure: &Failure) -> String {
    let mut line = Vec::new();
    json::event::write(failure, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// The same as docs/records.md has it, processes as in all other records.
fn value(failure: &Failure) -> Value {
    let responsible = failure.process.as_ref().map(|(who, role)| {
        let mut value = json::process(who);
        value["role"] = role.name().into();
        value
    });
    let asked = failure.asked;
    let mut value = json!({
        "v": 1,
        "type": "event",
        "time": format!("{:.6}", failure.time),
        "kind": failure.kind.name(),
        "cause": failure.cause.name(),
        "errno": failure.errno.and_then(errno_name),
        "count": failure.count,
        "process": responsible,
        "holders": failure.holders.iter().map(json::process).collect::<Vec<_>>(),
        "netns": failure.netns,
        "netns_cookie": failure.netns_cookie,
        "netns_name": failure.netns_name.as_deref(),
        "family": failure.family.name(),
        "protocol": protocol_name(failure.protocol),
        "local": failure.local.map(|address| address.to_string()),
        "remote": failure.remote.map(|address| address.to_string()),
        "socket": failure.inode.map(|inode| json!({ "inode": inode })),
        "accept_queue": failure.accept_queue.map(|queue| json!({
            "len": queue.len,
            "max": queue.max,
            "asked": asked.map(|asked| asked.backlog),
            "somaxconn": asked.map(|asked| asked.somaxconn),
        })),
        "request_queue": failure.request_queue.map(|queue| json!({ "len": queue.len, "max": queue.max })),
        "syncookie": failure.syncookie,
        "port_range": failure.own_range.map(|(low, high)| json!({ "low": low, "high": high })),
        "census": failure.census,
        "queue": failure.queue,
        "hook": failure.hook.name(),
    });
    if let Some(since) = failure.since {
        value["since"] = format!("{since:.6}").into();
    }
    value
}

fn time(dice: &mut Dice) -> Timestamp {
    let since = SignedDuration::new(i64::from(dice.roll(u32::MAX)), 0)
        + SignedDuration::from_nanos(i64::from(dice.roll(1_000_000_000)));
    Timestamp::UNIX_EPOCH
        .saturating_add(since)
        .unwrap_or_default()
}

/// A namespace with this inode number.
fn life(dice: &mut Dice, inum: u32) -> Netns {
    Netns {
        inum,
        cookie: dice.of(&[0, 1, 1 << 40]).unwrap_or_default(),
    }
}

/// Whatever somebody called something.
fn name(dice: &mut Dice) -> String {
    let names = [
        "",
        "web",
        "größe",
        "\u{1b}]52;c;AAAA\u{7}",
        "\u{9b}2J\u{202e}",
        "a\"b\\c",
    ];
    dice.of(&names).unwrap_or_default().to_owned()
}

fn maybe_name(dice: &mut Dice) -> Option<String> {
    (dice.roll(2) == 0).then(|| name(dice))
}

fn place(dice: &mut Dice) -> Place {
    let runtimes = [
        None,
        Some("docker".into()),
        Some("of a later tracer".into()),
    ];
    Place {
        cgroup: name(dice),
        container: (dice.roll(2) == 0).then(|| Container {
            id: name(dice),
            runtime: dice.of(&runtimes).flatten(),
            name: maybe_name(dice),
        }),
        unit: maybe_name(dice),
        pod: (dice.roll(2) == 0).then(|| Pod {
            uid: name(dice),
            name: maybe_name(dice),
            namespace: maybe_name(dice),
        }),
    }
}

fn process(dice: &mut Dice) -> Process {
    let texts = ["", "curl", "größe", "\u{1b}[2J\\", "~\u{7f}", "a b\"c\n"]
        .map(|text| text.as_bytes().to_vec());
    let mut text = || dice.of(&texts);
    let (comm, exe, cmdline) = (text().unwrap_or_default(), text(), text());
    Process {
        pid: dice.roll(u32::MAX),
        tid: dice.of(&[None, Some(1)]).flatten(),
        comm,
        exe: exe.filter(|exe| !exe.is_empty()),
        cmdline,
        uid: dice.of(&[None, Some(0), Some(u32::MAX)]).flatten(),
        kernel: dice.roll(2) == 0,
        place: (dice.roll(3) > 0).then(|| Arc::new(place(dice))),
    }
}

fn address(dice: &mut Dice) -> Option<SocketAddr> {
    let all = [
        "10.0.0.1",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "::ffff:1.2.3.4",
        "",
    ];
    let ip: Option<IpAddr> = dice.of(&all)?.parse().ok();
    let port = dice.of(&[0, 80, 65535])?;
    ip.map(|ip| SocketAddr::new(ip, port))
}

fn length(dice: &mut Dice) -> Option<Queue> {
    let (len, max) = (dice.roll(u32::MAX), dice.roll(5000));
    dice.of(&[None, Some(Queue { len, max })]).flatten()
}

pub(crate) fn failure(dice: &mut Dice) -> Failure {
    let roles = [Role::Caller, Role::Acceptor, Role::Listener, Role::Holder];
    let role = dice.of(&roles).unwrap_or(Role::Caller);
    let kind = dice.of(Kind::ALL).unwrap_or(Kind::BindFailed);
    let accept_queue = length(dice);
    let asked = Asked {
        backlog: dice.of(&[i32::MIN, -1, 0, 128]).unwrap_or_default(),
        somaxconn: dice.roll(u32::MAX),
    };
    Failure {
        time: time(dice),
        count: dice.of(&[1, 7, 1 << 40]).unwrap_or(1),
        since: (dice.roll(4) == 0).then(|| time(dice)),
        kind,
        cause: dice.of(Cause::ALL).unwrap_or(Cause::Other),
        hook: dice.of(Hook::ALL).unwrap_or(Hook::FexitInetBind),
        errno: dice.of(&[98, 99, 13]).filter(|_| !kind.is_drop()),
        process: (dice.roll(4) > 0).then(|| (process(dice), role)),
        holders: (0..dice.roll(4)).map(|_| process(dice)).collect(),
        netns: dice.roll(u32::MAX),
        netns_cookie: dice.of(&[0, 7, 1 << 40]).unwrap_or_default(),
        netns_name: maybe_name(dice).map(Arc::from),
        family: dice.of(Family::ALL).unwrap_or(Family::None),
        protocol: dice.of(&[6, 17, 262, 0]).unwrap_or(6),
        local: address(dice),
        remote: address(dice),
        inode: dice.of(&[None, Some(0), Some(u64::MAX)]).flatten(),
        accept_queue,
        request_queue: length(dice),
        syncookie: dice.roll(2) == 0,
        asked: (accept_queue.is_some() && dice.roll(2) == 0).then_some(asked),
        own_range: dice.of(&[None, Some((0, 5)), Some((1, 65535))]).flatten(),
        census: dice.of(&[None, Some(1)]).flatten(),
        queue: dice.of(&[None, Some(u64::MAX)]).flatten(),
    }
}

#[test]
fn failures() {
    let mut dice = Dice(1);
    let style = text::Style::detect(false);
    for _ in 0..600 {
        let before = failure(&mut dice);
        let record = value(&before);
        assert_eq!(line(&before), record.to_string());
        let after = reread(&record);
        assert!(
            matches!(&after, Ok(Parsed::Failure(after)) if value(after) == record
                && style.failure(after) == style.failure(&before)),
            "{record}\n{after:?}"
        );
    }
}

#[test]
fn names_are_escaped_as_serde_json_does() {
    let mut dice = Dice(6);
    for byte in 0..=u8::MAX {
        let mut failure = failure(&mut dice);
        let mut process = process(&mut dice);
        process.comm = vec![b'a', byte, b'z'];
        failure.holders.push(process);
        assert_eq!(line(&failure), value(&failure).to_string());
    }
}

#[test]
fn censuses() {
    let mut dice = Dice(2);
    let style = text::Style::detect(false);
    for _ in 0..600 {
        let mut before = dice.census();
        before.time = time(&mut dice);
        before.netns_name = maybe_name(&mut dice).map(Arc::from);
        let methods = [
            BoundUnused::SockDiag,
            BoundUnused::PidfdGetfd,
            BoundUnused::Incomplete("not permitted".into()),
        ];
        before.bound_unused = dice.of(&methods).unwrap_or(BoundUnused::SockDiag);
        before.advice = on_census(&before);
        let record = json::findings::census(&before);
        let after = reread(&record);
        assert!(
            matches!(&after, Ok(Parsed::Census(after)) if json::findings::census(after) == record
                && style.census(after) == style.census(&before)),
            "{record}\n{after:?}"
        );
    }
}

#[test]
fn queues() {
    let mut dice = Dice(3);
    let style = text::Style::detect(false);
    for _ in 0..600 {
        let mut before = dice.queue();
        before.time = time(&mut dice);
        before.since = time(&mut dice);
        before.netns_name = maybe_name(&mut dice).map(Arc::from);
        before.arrivals_per_s = dice
            .of(&[None, Some(0.25), Some(0.35), Some(1e15 / 7.0)])
            .flatten();
        before.holders.push(process(&mut dice));
        before.connections_capped = dice.roll(2) == 0;
        before.advice = on_queue(&before);
        let record = json::findings::queue_finding(&before);
        let after = reread(&record);
        assert!(
            matches!(&after, Ok(Parsed::Queue(after)) if json::findings::queue_finding(after) == record
                && first_lines(&style.queue(after)) == first_lines(&style.queue(&before))),
            "{record}\n{after:?}"
        );
    }
}

/// Seconds are shown with one digit, and records have microseconds: at the edge
/// they may differ.
fn first_lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.contains(" within "))
        .collect()
}

#[test]
fn totals() {
    let mut dice = Dice(4);
    let pair = |dice: &mut Dice| Pair {
        tracer: dice.of(&[0, 5, u64::MAX >> 1]).unwrap_or_default(),
        kernel: dice.of(&[None, Some(0), Some(7)]).flatten(),
    };
    for _ in 0..200 {
        let since = time(&mut dice);
        let mut before = Totals {
            time: since
                .saturating_add(SignedDuration::from_secs(9))
                .unwrap_or_default(),
            since,
            is_final: dice.roll(2) == 0,
            health: Health {
                counted: dice.roll(9).into(),
                described: dice.roll(9).into(),
                summed: dice.roll(9).into(),
                unattributed: dice.roll(2).into(),
                filtered: dice.roll(2).into(),
                unplaced: dice.roll(2).into(),
                unjudged: dice.roll(2).into(),
                waiting: 0,
            },
            filtered_in_kernel: dice.roll(2).into(),
            malformed: dice.roll(2).into(),
            counts: (0..dice.roll(5))
                .filter_map(|netns| {
                    Some((
                        (
                            life(&mut dice, netns),
                            dice.of(Kind::ALL)?,
                            dice.of(Cause::ALL)?,
                        ),
                        dice.roll(99).into(),
                    ))
                })
                .collect(),
            rows: (0..dice.roll(3))
                .map(|netns| Row {
                    netns: life(&mut dice, netns),
                    listen_overflows: pair(&mut dice),
                    listen_drops: pair(&mut dice),
                    req_qfull_drop: pair(&mut dice),
                    unavailable: dice.of(&[None, Some("no processes".into())]).flatten(),
                    explanation: dice.of(&[None, Some("ICMP".into())]).flatten(),
                })
                .collect(),
            by: (0..dice.roll(4))
                .filter_map(|netns| {
                    Some(By {
                        netns: life(&mut dice, netns),
                        kind: dice.of(Kind::ALL)?,
                        cause: dice.of(Cause::ALL)?,
                        process: (dice.roll(3) > 0).then(|| process(&mut dice)),
                        listener: (dice.roll(2) == 0).then(|| Listener {
                            inode: dice.roll(9).into(),
                            local: dice.of(&[None, Some(([10, 0, 0, 1], 80).into())]).flatten(),
                        }),
                        counted: dice.roll(99).into(),
                        described: dice.roll(9).into(),
                    })
                })
                .collect(),
            meanwhile: dice.roll(3).into(),
            missed: (0..dice.roll(2))
                .map(|runs| Missed {
                    purpose: Purpose::Connect,
                    runs: u64::from(runs) + 1,
                })
                .collect(),
            netns_names: BTreeMap::new(),
        };
        // Names of namespaces that are in neither list are not told.
        let netns = before.counts.keys().map(|(netns, ..)| *netns);
        let all: Vec<_> = netns
            .chain(before.rows.iter().map(|row| row.netns))
            .chain(before.by.iter().map(|by| by.netns))
            .collect();
        for netns in all {
            before.netns_names.insert(netns, name(&mut dice).into());
        }
        let record = json::totals(&before);
        let after = reread(&record);
        assert!(
            matches!(&after, Ok(Parsed::Totals(after)) if json::totals(after) == record
                && text::totals(after) == text::totals(&before)),
            "{record}\n{after:?}"
        );
    }
}

/// A record may have lost fields or got other values: it is understood or not.
#[test]
fn whatever_a_record_holds() {
    let mut dice = Dice(5);
    let style = text::Style::detect(true);
    let (mut read, mut not) = (0, 0);
    for _ in 0..5_000 {
        let mut record = match dice.roll(3) {
            0 => value(&failure(&mut dice)),
            1 => json::findings::census(&dice.census()),
            _ => json::findings::queue_finding(&dice.queue()),
        };
        for _ in 0..=dice.roll(3) {
            spoil(&mut record, &mut dice);
        }
        let shown = match parse(&record) {
            Ok(Parsed::Failure(failure)) => style.failure(&failure),
            Ok(Parsed::Census(census)) => style.census(&census),
            Ok(Parsed::Queue(finding)) => style.queue(&finding),
            Ok(_) => String::new(),
            Err(_) => {
                not += 1;
                continue;
            }
        };
        read += 1;
        // Colour is tracer's own.
        let rest = shown.replace("\u{1b}[", "").replace('\n', "");
        assert!(!rest.chars().any(char::is_control), "{shown:?}");
    }
    assert!(read > 300 && not > 300, "{read} {not}");
}

/// Puts something else somewhere.
fn spoil(value: &mut Value, dice: &mut Dice) {
    let others = [
        Value::Null,
        Value::from(-1),
        Value::from(u64::MAX),
        Value::from("\u{9b}2J\u{7}"),
        Value::from("10.0.0.1:99999"),
        Value::from(1e300),
        Value::Array(Vec::new()),
        Value::Object(serde_json::Map::new()),
    ];
    let many = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let inner = match value {
        Value::Object(fields) => {
            let chosen = dice.roll(many(fields.len()));
            fields
                .values_mut()
                .nth(usize::try_from(chosen).unwrap_or_default())
        }
        Value::Array(items) => {
            let chosen = dice.roll(many(items.len()));
            items.get_mut(usize::try_from(chosen).unwrap_or_default())
        }
        _ => None,
    };
    match inner {
        Some(inner) => spoil(inner, dice),
        None => *value = dice.of(&others).unwrap_or_default(),
    }
}

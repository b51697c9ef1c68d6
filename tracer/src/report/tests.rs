//! Synthetic captures and what is told of them.

mod html;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tracer_common::Kind;

use super::{
    analyse::{About, Analysis, Filter},
    json,
    line::{self, Line, Skipped},
    record,
    text::{self, Style},
};
use crate::{capture::read::Damage, filter};

fn startup() -> Value {
    json!({
        "v": 1, "type": "startup", "time": "2026-11-21T03:00:00Z", "version": "0.1.0",
        "kernel": "6.12.1", "boot_id": "b1", "host": "db7",
        "hooks": [{"purpose": "connect", "tier": "function"}, {"purpose": "bind", "tier": "portable"}],
        "degradations": ["bind: calls by io_uring are not seen"],
    })
}

fn connect(second: u32, pid: u32, census: u64) -> Value {
    json!({
        "v": 1, "type": "event", "time": format!("2026-11-21T03:00:{second:02}Z"),
        "kind": "connect_failed", "cause": "ports_exhausted", "errno": "EADDRNOTAVAIL", "count": 1,
        "process": {"pid": pid, "comm": "curl", "role": "caller", "kernel": false},
        "holders": [], "netns": 7, "local": "10.0.0.1:0", "remote": "10.0.0.2:80",
        "socket": {"inode": 1}, "census": census, "queue": null,
    })
}

fn census(second: u32, id: u64, time_wait: u64) -> Value {
    json!({
        "v": 1, "type": "census", "time": format!("2026-11-21T03:00:{second:02}.5Z"), "id": id,
        "netns": 7, "kind": "connect_failed", "cause": "ports_exhausted", "protocol": "tcp",
        "source": "10.0.0.1", "destination": "10.0.0.2:80",
        "range": {"low": 40000, "high": 40199, "own": false, "reserved": 0, "usable": 200},
        "parts": [
            {"state": "time_wait", "ports": time_wait, "sockets": time_wait, "holders": [
                {"owner": "process", "comm": "nginx", "reason": null, "ports": time_wait,
                 "sockets": time_wait, "process_count": 1,
                 "processes": [{"pid": 812, "comm": "nginx", "kernel": false, "ports": time_wait}]},
            ]},
        ],
        "free": 200 - time_wait, "unexplained": 0,
        "bound_unused": {"method": "sock_diag", "reason": null},
        "advice": [{"id": "keep-alive", "text": "Have nginx[812] keep connections open."}],
    })
}

fn dropped(kind: &str, second: u32) -> Value {
    json!({
        "v": 1, "type": "event", "time": format!("2026-11-21T03:00:{second:02}Z"),
        "kind": kind, "cause": "accept_queue_full", "errno": null, "count": 1,
        "process": {"pid": 5, "comm": "api", "role": "acceptor", "kernel": false},
        "holders": [{"pid": 5, "comm": "api", "kernel": false}, {"pid": 6, "comm": "master", "kernel": false}],
        "netns": 8, "local": "10.0.0.2:8080", "remote": "10.0.0.1:41000",
        "socket": {"inode": 99}, "accept_queue": {"len": 3, "max": 2}, "queue": 4,
    })
}

fn queue(id: u64, since: u32, until: u32, drops: u64, ghosts: u64) -> Value {
    json!({
        "v": 1, "type": "queue", "time": format!("2026-11-21T03:00:{until:02}Z"), "id": id,
        "netns": 8, "cause": "accept_queue_full", "local": "10.0.0.2:8080",
        "socket": {"inode": 99}, "process": {"pid": 5, "comm": "api"},
        "holders": [{"pid": 5, "comm": "api"}, {"pid": 6, "comm": "master"}],
        "since": format!("2026-11-21T03:00:{since:02}Z"),
        "until": format!("2026-11-21T03:00:{until:02}Z"),
        "accept_queue": {"len": 3, "max": 2, "asked": 2, "somaxconn": 4096},
        "request_queue": {"len": 0, "max": 2},
        "drops": {"syn_dropped": drops, "ack_dropped": 0, "overflow_reset": 0},
        "connections": 2, "connections_capped": false,
        "arrivals_per_s": 4.0, "accepts_per_s": 0.0, "accepts": 0,
        "ghosts": {"count": ghosts, "peers": [{"address": "10.0.0.1:41000", "process": null}]},
        "sysctls": {}, "advice": [{"id": "accept-faster", "text": format!("Advice of {id}, {drops}.")}],
    })
}

fn totals(counted: u64, kernel: u64) -> Value {
    json!({
        "v": 1, "type": "totals", "time": "2026-11-21T03:00:59Z", "since": "2026-11-21T03:00:00Z",
        "final": true, "counted": counted, "described": counted, "lost": 0, "malformed": 0,
        "unplaced": 0, "unjudged": 0, "counts": [],
        "kernel": [{
            "netns": 8, "unavailable": null,
            "listen_overflows": {"tracer": 3, "kernel": kernel, "difference": 0},
            "listen_drops": {"tracer": 3, "kernel": kernel, "difference": 0},
            "tcp_req_qfull_drop": {"tracer": 0, "kernel": 0, "difference": 0},
        }],
        "meanwhile": 0,
    })
}

fn end() -> Value {
    json!({"v": 1, "type": "end", "time": "2026-11-21T03:01:00Z", "reason": "interrupted", "exit_code": 0})
}

fn capture() -> Vec<Value> {
    let mut records = vec![startup()];
    records.extend((1..=4).map(|second| connect(second, 100 + second, 1)));
    records.push(census(4, 1, 199));
    records.push(dropped("syn_dropped", 10));
    records.push(dropped("syn_dropped", 11));
    records.push(dropped("ack_dropped", 12));
    records.push(queue(2, 10, 12, 3, 1));
    records.push(totals(7, 3));
    records.push(end());
    records
}

fn analysis(filter: Filter, records: &[Value]) -> Analysis {
    let mut analysis = Analysis::new(filter);
    for record in records {
        analysis.feed(record);
    }
    analysis
}

fn style(width: usize) -> Style {
    Style {
        width,
        colour: false,
        zone: TimeZone::UTC,
        top: 5,
    }
}

fn all(records: &[Value]) -> Analysis {
    analysis(Filter::default(), records)
}

#[test]
fn the_first_screen() {
    let told = text::report(&all(&capture()), &[], &style(80));
    let expected = "\
captured  on db7, Linux 6.12.1, by tracer 0.1.0
          2026-11-21 03:00:00 +00:00 to 03:01:00 (1 min 0 s), ended: interrupted
          7 failures, 1 census, 1 queue record, none lost, no gap
hooks     function hooks for connect; tracepoints and cgroup_skb for bind; what
          they cannot give is told at the end

1  curl (4 processes): connect to 10.0.0.2:80: ports exhausted
   4 failed, 03:00:01.000 to 03:00:04.000 (3.0 s), netns 7
   where the 200 ports (40000-40199) of 10.0.0.1 were at 03:00:04.500:
      199  TIME_WAIT               closed by nginx[812]
        1  free by then
   → Have nginx[812] keep connections open. [keep-alive]

2  api[5], listening on 10.0.0.2:8080: accept queue full
   3 dropped (2 SYNs, 1 final ACK), 03:00:10.000 to 03:00:12.000 (2.0 s),
   netns 8
   2 connections hit; accept queue 3/2; listen() asked for 2, somaxconn was 4096
   nothing was accepted, while 4.0 a second came
   held by api[5], master[6]
   1 client believed to be connected, and the server did not know them:
   10.0.0.1:41000
   → Advice of 2, 3. [accept-faster]

timeline, 5 s a bar
   failed calls  ████················································ ≤4
   drops         ········████········································ ≤3
                 03:00:00        03:00:20        03:00:40        03:01:00

programs by failed calls
        4  curl (4 processes)      connect to 10.0.0.2:80: ports exhausted; 199
                                   of 200 ports TIME_WAIT, closed by nginx[812]

listeners by drops
        3  10.0.0.2:8080           api[5]; accept queue full; 03:00:10.000 to
                                   03:00:12.000 (2.0 s)

totals of the machine beside the kernel's own
   7 counted, 7 described, 0 lost; 7 in these files
   netns 8: ListenOverflows 3 = 3, ListenDrops 3 = 3, TCPReqQFullDrop 0 = 0

not seen, and why
   - bind: calls by io_uring are not seen
";
    assert_eq!(told, expected, "\n{told}");
    assert!(told.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn nothing_failed_and_nothing_at_all() {
    let quiet = text::report(&all(&[startup(), end()]), &[], &style(80));
    assert!(quiet.contains("No failure was captured."), "{quiet}");
    let empty = text::report(&all(&[]), &[], &style(80));
    assert!(
        empty.starts_with("captured  nothing: there is no record\n"),
        "{empty}"
    );
}

/// Of failures, whenever they happened.
fn only(only: filter::Filter) -> Filter {
    Filter {
        only,
        ..Filter::default()
    }
}

#[test]
fn what_was_asked_for_is_shown() {
    let time = |text: &str| text.parse().ok();
    let filters = [
        (
            only(filter::Filter {
                pids: vec![102],
                ..filter::Filter::default()
            }),
            1,
        ),
        // Also who only holds the listener.
        (
            only(filter::Filter {
                pids: vec![6],
                ..filter::Filter::default()
            }),
            3,
        ),
        (
            only(filter::Filter {
                comms: vec!["curl".into()],
                ..filter::Filter::default()
            }),
            4,
        ),
        (
            only(filter::Filter {
                comms: vec!["cur".into()],
                ..filter::Filter::default()
            }),
            0,
        ),
        (
            only(filter::Filter {
                kinds: vec![Kind::AckDropped],
                ..filter::Filter::default()
            }),
            1,
        ),
        (
            Filter {
                since: time("2026-11-21T03:00:04Z"),
                ..Filter::default()
            },
            4,
        ),
        (
            Filter {
                until: time("2026-11-21T03:00:04Z"),
                ..Filter::default()
            },
            4,
        ),
        (
            Filter {
                since: time("2027-01-01T00:00:00Z"),
                ..Filter::default()
            },
            0,
        ),
    ];
    for (filter, shown) in filters {
        let analysis = analysis(filter.clone(), &capture());
        assert_eq!(analysis.shown, shown, "{filter:?}");
        assert_eq!(analysis.events, 7);
        let told = text::report(&analysis, &[], &style(80));
        assert!(
            told.contains(&format!("\nshown     {shown} of 7 failures: ")),
            "{told}"
        );
        assert!(
            told.contains("totals of the machine, all of the capture"),
            "{told}"
        );
    }
}

#[test]
fn the_worst_census_and_the_worst_spell_are_told() {
    let mut records = vec![startup()];
    for (second, id, ports) in [(1, 1, 150), (2, 2, 199), (3, 3, 199), (4, 4, 10)] {
        records.push(connect(second, 1, id));
        records.push(census(second, id, ports));
    }
    // Two records of one spell, then one of another.
    for (second, id, drops, ghosts) in [(10, 5, 1, 2), (12, 5, 70, 0), (40, 6, 8, 1)] {
        records.push(dropped("syn_dropped", second));
        records.push(queue(id, 10, second, drops, ghosts));
    }
    let analysis = all(&records);
    let mut seen = 0;
    for finding in analysis.findings() {
        match finding.about {
            About::Calls(_, calls) => {
                let worst = calls.worst.as_ref();
                assert_eq!(worst.map(record::Census::taken), Some(199));
                let time = worst.map(|census| census.time.to_string());
                assert_eq!(time.as_deref(), Some("2026-11-21T03:00:02.5Z"));
                assert_eq!(calls.censuses, 4);
                seen += 1;
            }
            About::Listener(_, listener) => {
                assert_eq!(listener.spells, 2);
                assert_eq!(listener.spell().map(|spell| spell.drops), Some(70));
                assert_eq!(listener.ghosts, 2);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn rotated_files_are_one_run_and_restarts_leave_a_gap() {
    let mut later = startup();
    later["time"] = "2026-11-21T04:00:00Z".into();
    let mut on = connect(5, 1, 1);
    on["time"] = "2026-11-21T04:00:01Z".into();
    let mut records = capture();
    records.insert(3, startup());
    records.push(later);
    records.push(on);
    let analysis = all(&records);
    assert_eq!(analysis.runs.told.len(), 2);
    assert_eq!(analysis.gaps.len(), 1);
    let totals = analysis.runs.totals();
    assert_eq!(totals.map(|totals| totals.counted), Some(7));
    let told = text::report(&analysis, &[], &style(80));
    assert!(told.contains("in 2 runs"), "{told}");
    assert!(
        told.contains("no end: killed, or still being written"),
        "{told}"
    );
    assert!(told.contains("\n   gap ~ "), "{told}");
    assert!(
        told.contains("03:01:00 +00:00 to 04:00:00: tracer was not running"),
        "{told}"
    );
}

#[test]
fn files_that_are_not_here_and_records_that_were_not_written_leave_gaps() {
    let file = |number: u64, time: &str| {
        let mut record = startup();
        record["file"] = json!({"number": number, "time": time});
        record
    };
    let mut records = vec![file(3, "2026-11-21T03:00:01Z"), connect(2, 1, 1)];
    records.push(file(4, "2026-11-21T03:00:03Z"));
    records.push(connect(4, 1, 1));
    records.push(file(7, "2026-11-21T03:00:08Z"));
    records.push(json!({
        "v": 1, "type": "gap", "time": "2026-11-21T03:00:10Z", "since": "2026-11-21T03:00:09Z",
        "records": 12, "reason": "No space left on device",
    }));
    let analysis = all(&records);
    assert_eq!(analysis.runs.told.len(), 1);
    let gaps: Vec<_> = analysis.gaps.iter().map(|gap| gap.why.as_str()).collect();
    let expected = [
        "3 files of the set not here",
        "2 files of the set not here",
        "12 records not written: No space left on device",
    ];
    assert_eq!(gaps, expected);
    let begun = analysis.window().map(|(first, _)| first.to_string());
    assert_eq!(begun.as_deref(), Some("2026-11-21T03:00:01Z"));
}

#[test]
fn what_is_lost_differs_or_is_unknown_is_told() {
    let mut records = capture();
    records.push(totals(9, 5));
    records.push(json!({"v": 1, "type": "lost", "time": "2026-11-21T03:00:30Z", "count": 12}));
    records.push(json!({"v": 1, "type": "weather", "time": "2026-11-21T03:00:31Z"}));
    records.push(json!({"v": 2, "type": "event"}));
    records.push(json!({"v": 1, "type": "event", "time": "2026-11-21T03:00:31Z", "kind": "tea"}));
    records.push(json!([1, 2]));
    let notes = vec!["x.jsonl: 17 bytes at the end are torn".to_owned()];
    let told = text::report(&all(&records), &notes, &style(100));
    for part in [
        "12 lost, no gap",
        "files     x.jsonl: 17 bytes at the end are torn",
        "   lost !        ",
        "ListenOverflows 5, tracer 3, difference +2",
        "- 12 failures counted, but not described: too many at once",
        "- 2 failures described, but not in these files",
        "- 1 record skipped, of the unknown type \"weather\"",
        "- 1 record skipped, of a schema",
        "- 1 record skipped, without a time",
        "- 1 record skipped, that are no JSON objects",
        "- x.jsonl: 17 bytes at the end are torn",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn ever_new_processes_and_listeners_do_not_grow_memory() {
    let mut analysis = Analysis::new(Filter::default());
    analysis.feed(&startup());
    let mut call = connect(1, 1, 1);
    let mut drop = dropped("syn_dropped", 2);
    let mut spell = queue(1, 2, 2, 1, 0);
    let mut taken = census(1, 1, 199);
    for number in 0..20_000_u64 {
        call["process"]["pid"] = number.into();
        call["process"]["comm"] = format!("c{number}").into();
        call["remote"] = format!("10.0.0.2:{number}").into();
        call["census"] = number.into();
        taken["id"] = number.into();
        drop["socket"]["inode"] = number.into();
        spell["socket"]["inode"] = number.into();
        for record in [&call, &taken, &drop, &spell] {
            analysis.feed(record);
        }
    }
    assert!(analysis.calls.by_weight().len() <= 1024);
    assert!(analysis.listeners.by_weight().len() <= 1024);
    assert!(analysis.processes.by_weight().len() <= 1024);
    assert_eq!(analysis.calls.others(0).count, 20_000);
    assert_eq!(analysis.listeners.others(0).count, 20_000);
    let told = text::report(&analysis, &[], &style(80));
    assert!(
        told.contains("39995 more findings with 39995 failures (--top N)"),
        "{told}"
    );
    assert!(told.contains("too many to remember"), "{told}");
    let object = json::report(&analysis, &Damage::default(), 5);
    assert_eq!(object["others"]["findings"]["count"], 39_995);
}

/// A capture with `evil` in every place of its records, beside the records as they were.
fn poisoned(evil: &Value) -> Analysis {
    let mut analysis = Analysis::new(Filter::default());
    for record in capture() {
        mutations(&record, evil, &mut |changed| {
            analysis.feed(changed);
            analysis.feed(&record);
        });
    }
    analysis
}

/// Puts `evil` in every place of `record`, one at a time.
fn mutations(record: &Value, evil: &Value, each: &mut dyn FnMut(&Value)) {
    fn places(value: &Value, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    places(inner, &format!("{path}/{name}"), found);
                }
            }
            Value::Array(list) => {
                for (index, inner) in list.iter().enumerate() {
                    places(inner, &format!("{path}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    places(record, "", &mut found);
    for path in found {
        let mut changed = record.clone();
        if let Some(place) = changed.pointer_mut(&path) {
            *place = evil.clone();
        }
        each(&changed);
    }
}

#[test]
fn hostile_records_do_no_harm() {
    let evils = [
        Value::Null,
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!("\u{1b}]0;evil\u{7}\u{202e}\n"),
        json!("x".repeat(100_000)),
        json!("9999-12-30T22:00:00.999999999Z"),
        json!("-009999-01-02T01:59:59Z"),
        json!([[[]]]),
        json!({"a": {}}),
        json!(true),
    ];
    for evil in &evils {
        let analysis = poisoned(evil);
        for width in [60, 160] {
            let style = Style {
                colour: false,
                top: 1000,
                ..style(width)
            };
            let told = text::report(&analysis, &["\u{1b}[2J".to_owned()], &style);
            let is_evil = |character: char| {
                character != '\n' && (character.is_control() || character == '\u{202e}')
            };
            assert!(!told.chars().any(is_evil), "{told:?}");
            assert!(told.len() < 1_000_000);
        }
        let object = json::report(&analysis, &Damage::default(), 1000).to_string();
        let back: Result<Value, _> = serde_json::from_str(&object);
        assert!(back.is_ok());
    }
}

#[test]
fn a_line_read_fast_says_the_same() {
    let evils = [
        Value::Null,
        json!(-1),
        json!(5),
        json!(1.5),
        json!("a\"\\ü"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
    ];
    let (mut fast, mut slow, mut skipped) = (0, 0, Skipped::default());
    for evil in &evils {
        for event in [connect(1, 2, 3), dropped("ack_dropped", 4)] {
            mutations(&event, evil, &mut |changed| match line::parse(
                changed.to_string().as_bytes(),
                &mut skipped,
            ) {
                Some(Line::Event(event)) => {
                    assert_eq!(Some(event), record::event(changed), "{changed}");
                    fast += 1;
                }
                Some(Line::Other(record)) => {
                    assert_eq!(record, *changed);
                    slow += 1;
                }
                None => assert!(!changed.is_object()),
            });
        }
    }
    assert!(fast > 50 && slow > 50, "{fast} {slow}");
}

#[test]
fn the_object_says_the_same() {
    let object = json::report(&all(&capture()), &Damage::default(), 5);
    assert_eq!(object["type"], "report");
    assert_eq!(object["captured"]["failures"], 7);
    let [calls, listener] = [&object["findings"][0], &object["findings"][1]];
    assert_eq!(calls["about"], "failed_calls");
    assert_eq!(calls["count"], 4);
    assert_eq!(calls["culprit"]["state"], "time_wait");
    assert_eq!(calls["culprit"]["processes"][0]["pid"], 812);
    assert_eq!(calls["programs"]["named"][0]["comm"], "curl");
    assert_eq!(listener["drops"]["syn_dropped"], 2);
    assert_eq!(listener["worst_spell"]["accept_queue"]["asked"], 2);
    assert_eq!(listener["advice"][0]["id"], "accept-faster");
    let bars = object["timeline"]["bars"].as_array();
    let sum = |field: &str| -> u64 {
        let bars = bars.into_iter().flatten();
        bars.filter_map(|bar| bar[field].as_u64()).sum()
    };
    assert_eq!((sum("failed_calls"), sum("drops")), (4, 3));
    let own = |value: &Value| -> Vec<u64> {
        let bars = value["timeline"].as_array().into_iter().flatten();
        bars.filter_map(Value::as_u64).collect()
    };
    let whole = |field: &str| -> Vec<u64> {
        let bars = bars.into_iter().flatten();
        bars.filter_map(|bar| bar[field].as_u64()).collect()
    };
    for value in [calls, &object["programs"][0]] {
        assert_eq!(own(value), whole("failed_calls"), "{value}");
    }
    for value in [listener, &object["listeners"][0]] {
        assert_eq!(own(value), whole("drops"), "{value}");
    }
}

//! A record → a log record. Pure.
//!
//! Attributes have the names of OpenTelemetry's semantic conventions where these
//! have one, else those of docs/records.md behind `tracer.`; docs/otlp.md has the
//! table.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    logs::v1::{LogRecord, SeverityNumber},
};
use tracer_common::{Cause, Kind};

use super::attributes::{Attributes, any};
use crate::{
    explain::finding::Advice,
    model::{Failure, Process, Queue, Role, errno_name, protocol_name},
    output::{self, words},
    record::Record,
};

/// How many holders of a listener are told.
const HOLDERS: usize = 64;

/// Whether it becomes a log record: others are told by metrics, or of no use to others.
pub(super) fn is_sent(record: Record<'_>) -> bool {
    !matches!(
        record,
        Record::Startup(_) | Record::Verified(_) | Record::Totals(_) | Record::End(_)
    )
}

/// What a record becomes that is sent.
pub(super) fn log(record: Record<'_>) -> Option<LogRecord> {
    Some(match record {
        Record::Failure(failure) => self::failure(failure),
        Record::Census(census) => {
            let mut attributes = finding(census.netns, census.netns_name.as_deref());
            kind_and_cause(&mut attributes, Some(census.kind), census.cause);
            attributes.text("network.transport", protocol_name(census.protocol));
            attributes.count("tracer.census", census.id);
            if let Some(source) = census.source {
                attributes.text("network.local.address", source.to_string());
            }
            if let Some(peer) = census.destination {
                attributes.text("network.peer.address", peer.ip().to_string());
                attributes.number("network.peer.port", peer.port());
            }
            attributes.count("tracer.free", census.free.into());
            attributes.count("tracer.unexplained", census.unexplained.into());
            attributes.count("tracer.range.usable", census.range.usable.into());
            advice(&mut attributes, &census.advice);
            told("tracer.census", census.time, record, attributes)
        }
        Record::NoCensus(time, id, scope, why) => {
            let mut attributes = finding(scope.netns.inum, None);
            kind_and_cause(&mut attributes, Some(scope.kind), scope.cause);
            attributes.count("tracer.census", id);
            attributes.text("tracer.unavailable", why);
            told("tracer.census", time, record, attributes)
        }
        Record::Queue(queue) => {
            let mut attributes = finding(queue.netns, queue.netns_name.as_deref());
            kind_and_cause(&mut attributes, None, queue.cause);
            attributes.count("tracer.queue", queue.id);
            if let Some(local) = queue.local {
                attributes.text("network.local.address", local.ip().to_string());
                attributes.number("network.local.port", local.port());
            }
            attributes.count("tracer.socket.inode", queue.inode);
            if let Some(process) = &queue.process {
                self::process(&mut attributes, process);
            }
            lengths(&mut attributes, "accept_queue", Some(queue.accept_queue));
            attributes.count("tracer.drops.syn_dropped", queue.syn_drops);
            attributes.count("tracer.drops.ack_dropped", queue.ack_drops);
            attributes.count("tracer.drops.overflow_reset", queue.resets);
            attributes.count("tracer.connections", queue.connections);
            advice(&mut attributes, &queue.advice);
            told("tracer.queue", queue.time, record, attributes)
        }
        Record::Lost(time, count) => {
            let mut attributes = Attributes::default();
            attributes.count("tracer.count", count);
            let log = told("tracer.lost", time, record, attributes);
            with(log, SeverityNumber::Warn)
        }
        Record::Gap(time, gap) => {
            let mut attributes = Attributes::default();
            attributes.count("tracer.records", gap.records);
            let log = told("tracer.gap", time, record, attributes);
            with(log, SeverityNumber::Warn)
        }
        Record::Startup(_) | Record::Totals(_) | Record::Verified(_) | Record::End(_) => {
            return None;
        }
    })
}

/// Notes by what a record can be known that came twice, because its first arrival was not
/// confirmed.
pub(super) fn identify(log: &mut LogRecord, instance: &str, number: u64) {
    let mut attributes = Attributes::default();
    attributes.text("log.record.uid", format!("{instance}-{number}"));
    log.attributes.extend(attributes.into_inner());
}

fn failure(failure: &Failure) -> LogRecord {
    let mut attributes = finding(failure.netns, failure.netns_name.as_deref());
    let to = &mut attributes;
    kind_and_cause(to, Some(failure.kind), failure.cause);
    to.count("tracer.count", failure.count);
    if let Some(errno) = failure.errno.and_then(errno_name) {
        to.text("error.type", errno);
    }
    if let Some((process, role)) = &failure.process {
        self::process(to, process);
        self::role(to, *role);
    }
    if failure.kind.is_drop() {
        let pids = failure.holders.iter().take(HOLDERS);
        to.list(
            "tracer.holders",
            pids.map(|holder| Value::IntValue(holder.pid.into())),
        );
        to.count("tracer.holder_count", failure.holders.len() as u64);
        to.flag("tracer.syncookie", failure.syncookie);
    }
    to.text("network.type", failure.family.name());
    to.text("network.transport", protocol_name(failure.protocol));
    if let Some(local) = failure.local {
        to.text("network.local.address", local.ip().to_string());
        to.number("network.local.port", local.port());
    }
    if let Some(peer) = failure.remote {
        to.text("network.peer.address", peer.ip().to_string());
        to.number("network.peer.port", peer.port());
    }
    if let Some(inode) = failure.inode {
        to.count("tracer.socket.inode", inode);
    }
    lengths(to, "accept_queue", failure.accept_queue);
    if let Some(asked) = failure.asked {
        to.number("tracer.accept_queue.asked", asked.backlog);
        to.number("tracer.accept_queue.somaxconn", asked.somaxconn);
    }
    lengths(to, "request_queue", failure.request_queue);
    if let Some((low, high)) = failure.own_range {
        to.number("tracer.port_range.low", low);
        to.number("tracer.port_range.high", high);
    }
    if let Some(census) = failure.census {
        to.count("tracer.census", census);
    }
    if let Some(queue) = failure.queue {
        to.count("tracer.queue", queue);
    }
    to.text("tracer.hook", failure.hook.name());
    let severity = match failure.errno {
        Some(_) => SeverityNumber::Error,
        None => SeverityNumber::Warn,
    };
    let name = format!("tracer.{}", failure.kind.name());
    with(
        new(&name, failure.time, sentence(failure), attributes),
        severity,
    )
}

/// A failure in one line that no terminal acts on.
fn sentence(failure: &Failure) -> String {
    let parts = [
        format!(
            "{} {}: {}",
            words::process(failure),
            words::what(failure.kind),
            words::cause(failure.cause)
        ),
        words::addresses(failure),
        words::queues(failure),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(", ")
}

fn finding(netns: u32, name: Option<&str>) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.number("tracer.netns", netns);
    if let Some(name) = name {
        attributes.text("tracer.netns_name", name);
    }
    attributes
}

fn kind_and_cause(to: &mut Attributes, kind: Option<Kind>, cause: Cause) {
    if let Some(kind) = kind {
        to.text("tracer.kind", kind.name());
    }
    to.text("tracer.cause", cause.name());
}

fn role(to: &mut Attributes, role: Role) {
    to.text("tracer.process.role", role.name());
}

/// Not its command line: it may hold secrets, and the conventions forbid it without
/// a filter for them.
fn process(to: &mut Attributes, process: &Process) {
    to.number("process.pid", process.pid);
    // What top and ps show.
    to.bytes("process.title", &process.comm);
    if let Some(tid) = process.tid {
        to.number("thread.id", tid);
    }
    if let Some(exe) = &process.exe {
        to.bytes("process.executable.path", exe);
    }
    if let Some(uid) = process.uid {
        to.number("process.real_user.id", uid);
    }
    if process.kernel {
        to.flag("tracer.process.kernel", true);
    }
    let Some(place) = process.place.as_deref() else {
        return;
    };
    to.text("process.linux.cgroup", &*place.cgroup);
    if let Some(unit) = &place.unit {
        to.text("tracer.process.unit", unit.as_str());
    }
    if let Some(container) = &place.container {
        to.text("container.id", container.id.as_str());
        if let Some(runtime) = &container.runtime {
            to.text("container.runtime.name", &**runtime);
        }
        if let Some(name) = &container.name {
            to.text("container.name", name.as_str());
        }
    }
    if let Some(pod) = &place.pod {
        to.text("k8s.pod.uid", pod.uid.as_str());
        if let Some(name) = &pod.name {
            to.text("k8s.pod.name", name.as_str());
        }
        if let Some(namespace) = &pod.namespace {
            to.text("k8s.namespace.name", namespace.as_str());
        }
    }
}

fn lengths(to: &mut Attributes, name: &str, queue: Option<Queue>) {
    if let Some(queue) = queue {
        to.number(&format!("tracer.{name}.len"), queue.len);
        to.number(&format!("tracer.{name}.max"), queue.max);
    }
}

fn advice(to: &mut Attributes, advice: &[Advice]) {
    if !advice.is_empty() {
        let texts = advice.iter().map(|advice| advice.text.clone());
        to.list("tracer.advice", texts.map(Value::StringValue));
    }
}

/// A log record that says what text output would.
fn told(name: &str, time: Timestamp, record: Record<'_>, attributes: Attributes) -> LogRecord {
    let text = output::plain(record);
    with(
        new(name, time, text.trim().to_owned(), attributes),
        SeverityNumber::Info,
    )
}

fn new(name: &str, time: Timestamp, body: String, attributes: Attributes) -> LogRecord {
    LogRecord {
        time_unix_nano: nanoseconds(time),
        observed_time_unix_nano: nanoseconds(Timestamp::now()),
        body: Some(any(Value::StringValue(body))),
        attributes: attributes.into_inner(),
        event_name: name.to_owned(),
        ..LogRecord::default()
    }
}

fn with(log: LogRecord, severity: SeverityNumber) -> LogRecord {
    let text = match severity {
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Warn => "WARN",
        _ => "INFO",
    };
    LogRecord {
        severity_number: severity.into(),
        severity_text: text.to_owned(),
        ..log
    }
}

/// Since the Unix epoch; before that there was no tracer.
pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use super::*;
    use crate::{
        capture::Gap,
        explain::census::Scope,
        model::{Asked, Container, Place, Pod},
    };

    /// Name, severity, body and attributes, a line each.
    fn lines(record: Record<'_>) -> Vec<String> {
        let Some(log) = log(record) else {
            return Vec::new();
        };
        let shown = |value: Option<Value>| match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            Some(Value::ArrayValue(array)) => format!("{} values", array.values.len()),
            other => format!("{other:?}"),
        };
        let body = shown(log.body.and_then(|body| body.value));
        let mut lines = vec![format!("{} {} {body}", log.severity_text, log.event_name)];
        lines.extend(log.attributes.into_iter().map(|one| {
            let value = shown(one.value.and_then(|value| value.value));
            format!("{}={value}", one.key)
        }));
        lines
    }

    fn server() -> Process {
        Process {
            pid: 7,
            comm: b"\x1b]52;c;\xff".to_vec(),
            exe: Some(b"/usr/bin/server".to_vec()),
            cmdline: Some(b"server --password=secret".to_vec()),
            uid: Some(33),
            place: Some(Arc::new(Place {
                cgroup: "/pod/web".into(),
                container: Some(Container {
                    id: "0123456789abcdef".into(),
                    runtime: Some("containerd".into()),
                    name: Some("web".into()),
                }),
                unit: Some("web.service".into()),
                pod: Some(Pod {
                    uid: "p-1".into(),
                    name: Some("web-0".into()),
                    namespace: Some("shop".into()),
                }),
            })),
            ..Process::default()
        }
    }

    #[test]
    fn a_failed_call() {
        let process = Process {
            pid: 42,
            tid: Some(43),
            comm: b"checkout".to_vec(),
            ..Process::default()
        };
        let failure = Failure {
            process: Some((process, Role::Caller)),
            census: Some(3),
            own_range: Some((1, 2)),
            netns_name: Some("blue".into()),
            ..Failure::example()
        };
        assert_eq!(
            lines(Record::Failure(&failure)),
            [
                "ERROR tracer.connect_failed checkout[42] connect failed: ports exhausted, 10.0.0.1:0 → 10.0.0.2:5432",
                "tracer.netns=1",
                "tracer.netns_name=blue",
                "tracer.kind=connect_failed",
                "tracer.cause=ports_exhausted",
                "tracer.count=1",
                "error.type=EADDRNOTAVAIL",
                "process.pid=42",
                "process.title=checkout",
                "thread.id=43",
                "tracer.process.role=caller",
                "network.type=ipv4",
                "network.transport=tcp",
                "network.local.address=10.0.0.1",
                "network.local.port=0",
                "network.peer.address=10.0.0.2",
                "network.peer.port=5432",
                "tracer.socket.inode=7",
                "tracer.port_range.low=1",
                "tracer.port_range.high=2",
                "tracer.census=3",
                "tracer.hook=fexit inet_hash_connect",
            ]
        );
    }

    #[test]
    fn a_drop_with_all_that_is_known_of_its_listener() {
        let failure = Failure {
            kind: Kind::SynDropped,
            cause: Cause::AcceptQueueFull,
            errno: None,
            process: Some((server(), Role::Acceptor)),
            holders: vec![server(), server()],
            local: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 443))),
            remote: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 50000))),
            accept_queue: Some(Queue { len: 129, max: 128 }),
            request_queue: Some(Queue { len: 3, max: 128 }),
            asked: Some(Asked {
                backlog: -1,
                somaxconn: 128,
            }),
            queue: Some(9),
            ..Failure::example()
        };
        let lines = lines(Record::Failure(&failure));
        for line in [
            // The name as it is, but harmless in what people read.
            "WARN tracer.syn_dropped \\x1b]52;c;\\xff[7] SYN dropped: accept queue full, [::1]:443 ← [::1]:50000, 129/128",
            "process.title=\u{1b}]52;c;\u{fffd}",
            "process.executable.path=/usr/bin/server",
            "process.real_user.id=33",
            "process.linux.cgroup=/pod/web",
            "tracer.process.unit=web.service",
            "container.id=0123456789abcdef",
            "container.runtime.name=containerd",
            "container.name=web",
            "k8s.pod.uid=p-1",
            "k8s.pod.name=web-0",
            "k8s.namespace.name=shop",
            "tracer.process.role=acceptor",
            "tracer.holders=2 values",
            "tracer.holder_count=2",
            "tracer.syncookie=false",
            "network.local.address=::1",
            "network.local.port=443",
            "tracer.accept_queue.len=129",
            "tracer.accept_queue.max=128",
            "tracer.accept_queue.asked=-1",
            "tracer.accept_queue.somaxconn=128",
            "tracer.request_queue.len=3",
            "tracer.queue=9",
        ] {
            assert!(lines.iter().any(|told| told == line), "{line}: {lines:#?}");
        }
        // A command line may hold secrets.
        assert!(
            !lines.iter().any(|line| line.contains("secret")),
            "{lines:#?}"
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(
            lines(Record::Lost(at, 7)),
            [
                "WARN tracer.lost -- 7 failures were counted but not described: too many at once",
                "tracer.count=7",
            ]
        );
        let gap = Gap {
            since: at,
            records: 3,
            reason: "disk full".into(),
        };
        assert_eq!(
            lines(Record::Gap(at, &gap)),
            [
                "WARN tracer.gap -- 3 records since 00:00:00.000 could not be recorded: disk full",
                "tracer.records=3",
            ]
        );
        let scope = Scope {
            netns: crate::model::Netns::of_inode(1),
            kind: Kind::ConnectFailed,
            cause: Cause::PortsExhausted,
            protocol: 6,
            source: None,
            destination: None,
            port: None,
            own: (0, 0),
        };
        assert_eq!(
            lines(Record::NoCensus(at, 4, &scope, "gone"))[..2],
            [
                "INFO tracer.census census 4 cannot be taken: gone",
                "tracer.netns=1"
            ]
        );
    }

    #[test]
    fn every_record_has_a_name_of_its_own() {
        let mut one = LogRecord::default();
        identify(&mut one, "run", 1);
        let mut other = LogRecord::default();
        identify(&mut other, "run", 2);
        assert_ne!(one, other);
        assert_eq!(one.attributes[0].key, "log.record.uid");
    }
}

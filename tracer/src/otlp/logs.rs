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

/// What a record becomes; `None`: it is told by metrics, or is of no use to others.
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
            let mut attributes = finding(scope.netns, None);
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
        Record::Startup(_) | Record::Totals(_) | Record::End(_) => return None,
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

//! JSON records → what they were made of: the reverse of `output::json`. Pure
//! and total.

mod findings;
mod totals;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::fields::{Chosen, Field, Untrusted, get};
use crate::{
    capture::Gap,
    explain::{
        census::Scope,
        finding::{Census, QueueFinding, Settings},
    },
    host::clock::Clocks,
    model::{Asked, Container, Failure, Netns, Place, Pod, Process, Queue},
    probe::{By, Served},
    record::{Checked, End, Record, Status, Totals, Verified},
    startup::Startup,
};

/// A record that was understood, with all that it is made of.
#[derive(Debug)]
pub(crate) enum Parsed {
    Startup(Startup),
    Failure(Failure),
    Census(Census),
    /// A census that could not be taken, and why.
    NoCensus(Timestamp, u64, Scope, String),
    Queue(QueueFinding),
    Totals(Totals),
    Verified(Verified),
    Lost(Timestamp, u64),
    Gap(Timestamp, Gap),
    End(End),
}

impl Parsed {
    /// As sinks take it.
    pub(crate) fn record(&self) -> Record<'_> {
        match self {
            Self::Startup(startup) => Record::Startup(startup),
            Self::Failure(failure) => Record::Failure(failure),
            Self::Census(census) => Record::Census(census),
            Self::NoCensus(time, id, scope, why) => Record::NoCensus(*time, *id, scope, why),
            Self::Queue(finding) => Record::Queue(finding),
            Self::Totals(totals) => Record::Totals(totals),
            Self::Verified(verified) => Record::Verified(verified),
            Self::Lost(time, count) => Record::Lost(*time, *count),
            Self::Gap(time, gap) => Record::Gap(*time, gap),
            Self::End(end) => Record::End(end),
        }
    }
}

/// Why one was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Of a later tracer, or of nobody.
    UnknownType,
    /// Fields are missing or hold something else.
    Misshapen,
}

/// The version of the schema that is understood.
const VERSION: u64 = 1;

/// Reads a record. Fields that nobody knows are ignored.
pub(crate) fn parse(record: &Value) -> Result<Parsed, Unread> {
    if get::<u64>(record, "v").is_some_and(|version| version != VERSION) {
        return Err(Unread::UnknownType);
    }
    let read = match record.get("type").and_then(Value::as_str) {
        Some("startup") => startup(record).map(Parsed::Startup),
        Some("event") => failure(record).map(Parsed::Failure),
        Some("census") if record.get("unavailable").is_some() => no_census(record),
        Some("census") => findings::census(record).map(Parsed::Census),
        Some("queue") => findings::queue(record).map(Parsed::Queue),
        Some("totals") => totals::totals(record).map(Parsed::Totals),
        Some("verified") => verified(record),
        Some("lost") => lost(record),
        Some("gap") => gap(record),
        Some("end") => end(record),
        _ => return Err(Unread::UnknownType),
    };
    read.ok_or(Unread::Misshapen)
}

fn startup(record: &Value) -> Option<Startup> {
    Some(Startup {
        time: get(record, "time")?,
        kernel: get(record, "kernel")?,
        boot_id: get(record, "boot_id")?,
        host: get(record, "host")?,
        served: get(record, "hooks")?,
        degradations: get(record, "degradations")?,
        unmatched: get(record, "unmatched").unwrap_or_default(),
        // Told to reports; nothing of it is shown.
        clocks: Clocks::default(),
        netns: None,
        settings: Settings::default(),
        listening: None,
    })
}

impl Field for Served {
    fn read(value: &Value) -> Option<Self> {
        let by = match value.get("tier")?.as_str()? {
            "none" => None,
            _ => Some(By {
                tier: get(value, "tier")?,
                targets: get(value, "programs")?,
                exactness: get(value, "exactness")?,
                note: None,
            }),
        };
        Some(Self {
            purpose: get(value, "purpose")?,
            by,
            reason: get(value, "reason")?,
        })
    }
}

fn verified(record: &Value) -> Option<Parsed> {
    Some(Parsed::Verified(Verified {
        time: get(record, "time")?,
        purposes: get(record, "purposes")?,
    }))
}

impl Field for Checked {
    fn read(value: &Value) -> Option<Self> {
        let Served {
            purpose,
            by,
            reason,
        } = Served::read(value)?;
        Some(Self {
            purpose,
            status: get(value, "status")?,
            caused: get(value, "caused")?,
            seen: get(value, "seen")?,
            by,
            reason,
        })
    }
}

impl Field for Status {
    fn read(value: &Value) -> Option<Self> {
        let all = [Self::Verified, Self::NotVerified, Self::Failed];
        let name = value.as_str()?;
        all.into_iter().find(|status| status.name() == name)
    }
}

fn failure(record: &Value) -> Option<Failure> {
    let kind: tracer_common::Kind = get(record, "kind")?;
    let responsible = record.get("process").filter(|process| !process.is_null());
    let accept_queue = record.get("accept_queue");
    Some(Failure {
        time: get(record, "time")?,
        count: get(record, "count")?,
        since: get::<Option<_>>(record, "since")?,
        kind,
        cause: get(record, "cause")?,
        hook: get(record, "hook")?,
        errno: match get::<Option<Errno>>(record, "errno")? {
            Some(Errno(number)) => Some(number),
            // Calls fail with some errno, if it is not one of those with a name.
            None if !kind.is_drop() => Some(0),
            None => None,
        },
        process: match responsible {
            Some(process) => Some((Process::read(process)?, get(process, "role")?)),
            None => None,
        },
        holders: get(record, "holders")?,
        netns: get(record, "netns")?,
        netns_cookie: get::<Option<_>>(record, "netns_cookie")?.unwrap_or_default(),
        netns_name: netns_name(record)?,
        family: get(record, "family")?,
        protocol: protocol(record)?,
        local: get(record, "local")?,
        remote: get(record, "remote")?,
        inode: match record.get("socket").filter(|socket| !socket.is_null()) {
            Some(socket) => Some(get(socket, "inode")?),
            None => None,
        },
        accept_queue: get(record, "accept_queue")?,
        request_queue: get(record, "request_queue")?,
        syncookie: get(record, "syncookie")?,
        asked: accept_queue.and_then(asked),
        own_range: match record.get("port_range").filter(|range| !range.is_null()) {
            Some(range) => Some((get(range, "low")?, get(range, "high")?)),
            None => None,
        },
        census: get(record, "census")?,
        queue: get(record, "queue")?,
    })
}

/// The reverse of [`crate::model::errno_name`].
struct Errno(u16);

impl Field for Errno {
    fn read(value: &Value) -> Option<Self> {
        let number = match value.as_str()? {
            "EADDRINUSE" => libc::EADDRINUSE,
            "EADDRNOTAVAIL" => libc::EADDRNOTAVAIL,
            _ => return None,
        };
        number.try_into().ok().map(Self)
    }
}

/// The reverse of [`crate::model::protocol_name`].
fn protocol(record: &Value) -> Option<u16> {
    let number = match record.get("protocol")?.as_str()? {
        "tcp" => libc::IPPROTO_TCP,
        "udp" => libc::IPPROTO_UDP,
        "mptcp" => libc::IPPROTO_MPTCP,
        _ => libc::IPPROTO_IP,
    };
    number.try_into().ok()
}

/// What `listen()` was called with, beside an accept queue.
fn asked(accept_queue: &Value) -> Option<Asked> {
    Some(Asked {
        backlog: get(accept_queue, "asked")?,
        somaxconn: get(accept_queue, "somaxconn")?,
    })
}

impl Field for Queue {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            len: get(value, "len")?,
            max: get(value, "max")?,
        })
    }
}

impl Field for Process {
    fn read(value: &Value) -> Option<Self> {
        let bytes = |Untrusted(bytes)| bytes;
        Some(Self {
            pid: get(value, "pid")?,
            tid: get(value, "tid")?,
            comm: get(value, "comm").map(bytes)?,
            exe: get::<Option<_>>(value, "exe")?.map(bytes),
            cmdline: get::<Option<_>>(value, "cmdline")?.map(bytes),
            uid: get(value, "uid")?,
            kernel: get(value, "kernel")?,
            place: place(value)?.map(Arc::new),
        })
    }
}

/// Where a process belongs; the outer `None`: something else stands there.
fn place(process: &Value) -> Option<Option<Place>> {
    let Some(Chosen(cgroup)) = get::<Option<_>>(process, "cgroup")? else {
        return Some(None);
    };
    Some(Some(Place {
        cgroup,
        container: get(process, "container")?,
        unit: chosen(process, "unit")?,
        pod: get(process, "pod")?,
    }))
}

impl Field for Container {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: get(value, "id").map(|Chosen(id)| id)?,
            runtime: get(value, "runtime")?,
            name: chosen(value, "name")?,
        })
    }
}

impl Field for Pod {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            uid: get(value, "uid").map(|Chosen(uid)| uid)?,
            name: chosen(value, "name")?,
            namespace: chosen(value, "namespace")?,
        })
    }
}

/// A name that somebody chose, or `null`.
fn chosen(value: &Value, name: &str) -> Option<Option<String>> {
    Some(get::<Option<_>>(value, name)?.map(|Chosen(text)| text))
}

/// What people call the namespace of a record.
pub(super) fn netns_name(record: &Value) -> Option<Option<Arc<str>>> {
    Some(chosen(record, "netns_name")?.map(Arc::from))
}

fn no_census(record: &Value) -> Option<Parsed> {
    let scope = Scope {
        netns: Netns {
            inum: get(record, "netns")?,
            cookie: get::<Option<_>>(record, "netns_cookie")?.unwrap_or_default(),
        },
        kind: get(record, "kind")?,
        cause: get(record, "cause")?,
        protocol: 0,
        source: None,
        destination: None,
        port: None,
        own: (0, 0),
    };
    let (time, id) = (get(record, "time")?, get(record, "id")?);
    let why = get(record, "unavailable")?;
    Some(Parsed::NoCensus(time, id, scope, why))
}

fn lost(record: &Value) -> Option<Parsed> {
    Some(Parsed::Lost(get(record, "time")?, get(record, "count")?))
}

fn gap(record: &Value) -> Option<Parsed> {
    let gap = Gap {
        since: get(record, "since")?,
        records: get(record, "records")?,
        reason: get(record, "reason")?,
    };
    Some(Parsed::Gap(get(record, "time")?, gap))
}

fn end(record: &Value) -> Option<Parsed> {
    Some(Parsed::End(End {
        time: get(record, "time")?,
        reason: get(record, "reason")?,
        exit_code: get(record, "exit_code")?,
    }))
}

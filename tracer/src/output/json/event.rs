//! An event as JSON. It is the one record that comes in floods, so it is
//! written as it is read from the model, without a tree of values in between.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::VERSION;
use crate::model::{self, Asked, Failure, Role, errno_name, protocol_name};

/// Members in the order in which they are written.
#[derive(Serialize)]
pub(crate) struct Event<'a> {
    v: u32,
    r#type: &'static str,
    time: Time,
    kind: &'static str,
    cause: &'static str,
    errno: Option<&'static str>,
    count: u32,
    process: Option<Process<'a>>,
    holders: Holders<'a>,
    netns: u32,
    family: &'static str,
    protocol: &'static str,
    local: Option<Address>,
    remote: Option<Address>,
    socket: Option<Socket>,
    accept_queue: Option<AcceptQueue>,
    request_queue: Option<Queue>,
    syncookie: bool,
    port_range: Option<PortRange>,
    census: Option<u64>,
    queue: Option<u64>,
    hook: &'static str,
}

impl<'a> Event<'a> {
    pub(crate) fn new(failure: &'a Failure) -> Self {
        Self {
            v: VERSION,
            r#type: "event",
            time: Time(failure.time),
            kind: failure.kind.name(),
            cause: failure.cause.name(),
            errno: failure.errno.and_then(errno_name),
            count: 1,
            process: failure
                .process
                .as_ref()
                .map(|(process, role)| Process::new(process, Some(*role))),
            holders: Holders(&failure.holders),
            netns: failure.netns,
            family: failure.family.name(),
            protocol: protocol_name(failure.protocol),
            local: failure.local.map(Address),
            remote: failure.remote.map(Address),
            socket: failure.inode.map(|inode| Socket { inode }),
            accept_queue: failure
                .accept_queue
                .map(|queue| AcceptQueue::new(queue, failure.asked)),
            request_queue: failure.request_queue.map(Queue::new),
            syncookie: failure.syncookie,
            port_range: failure.own_range.map(|(low, high)| PortRange { low, high }),
            census: failure.census,
            queue: failure.queue,
            hook: failure.hook.name(),
        }
    }
}

#[derive(Serialize)]
struct Socket {
    inode: u64,
}

#[derive(Serialize)]
struct PortRange {
    low: u16,
    high: u16,
}

#[derive(Serialize)]
pub(super) struct Process<'a> {
    pid: u32,
    tid: Option<u32>,
    comm: Text<'a>,
    exe: Option<Text<'a>>,
    cmdline: Option<Text<'a>>,
    uid: Option<u32>,
    kernel: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

impl<'a> Process<'a> {
    pub(super) fn new(process: &'a model::Process, role: Option<Role>) -> Self {
        Self {
            pid: process.pid,
            tid: process.tid,
            comm: Text(&process.comm),
            exe: process.exe.as_deref().map(Text),
            cmdline: process.cmdline.as_deref().map(Text),
            uid: process.uid,
            kernel: process.kernel,
            role: role.map(Role::name),
        }
    }
}

struct Holders<'a>(&'a [model::Process]);

impl Serialize for Holders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let holders = self.0.iter();
        serializer.collect_seq(holders.map(|holder| Process::new(holder, None)))
    }
}

#[derive(Serialize)]
pub(super) struct Queue {
    len: u32,
    max: u32,
}

impl Queue {
    pub(super) fn new(queue: model::Queue) -> Self {
        let model::Queue { len, max } = queue;
        Self { len, max }
    }
}

/// With what `listen()` asked for.
#[derive(Serialize)]
pub(super) struct AcceptQueue {
    len: u32,
    max: u32,
    asked: Option<i32>,
    somaxconn: Option<u32>,
}

impl AcceptQueue {
    pub(super) fn new(queue: model::Queue, asked: Option<Asked>) -> Self {
        Self {
            len: queue.len,
            max: queue.max,
            asked: asked.map(|asked| asked.backlog),
            somaxconn: asked.map(|asked| asked.somaxconn),
        }
    }
}

/// A name as its process chose it.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0))
    }
}

struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

struct Address(SocketAddr);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

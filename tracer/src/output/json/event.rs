//! An event as JSON. It is the one record that comes in floods, so its line is put
//! together from pieces: what knows the names of its members and looks for
//! characters to escape in them takes three times as long.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::{
    Asked, Container, Failure, Pod, Process, Queue, Role, errno_name, protocol_name,
};

/// Writes an event, without the end of its line.
pub(crate) fn write(failure: &Failure, line: &mut Vec<u8>) {
    put(line, r#"{"v":1,"type":"event","time":"#, failure.time);
    put(line, r#","kind":"#, failure.kind.name());
    put(line, r#","cause":"#, failure.cause.name());
    put(line, r#","errno":"#, failure.errno.and_then(errno_name));
    put(line, r#","count":"#, failure.count);
    put(line, r#","process":"#, failure.process.as_ref());
    put(line, r#","holders":"#, failure.holders.as_slice());
    put(line, r#","netns":"#, failure.netns);
    put(line, r#","netns_cookie":"#, failure.netns_cookie);
    let netns_name = failure.netns_name.as_deref();
    put(line, r#","netns_name":"#, netns_name.map(Text::of));
    put(line, r#","family":"#, failure.family.name());
    put(line, r#","protocol":"#, protocol_name(failure.protocol));
    put(line, r#","local":"#, failure.local);
    put(line, r#","remote":"#, failure.remote);
    put(line, r#","socket":"#, failure.inode.map(Socket));
    let accept_queue = failure.accept_queue.map(|queue| (queue, failure.asked));
    put(line, r#","accept_queue":"#, accept_queue);
    put(line, r#","request_queue":"#, failure.request_queue);
    put(line, r#","syncookie":"#, failure.syncookie);
    put(line, r#","port_range":"#, failure.own_range.map(PortRange));
    put(line, r#","census":"#, failure.census);
    put(line, r#","queue":"#, failure.queue);
    put(line, r#","hook":"#, failure.hook.name());
    if let Some(since) = failure.since {
        put(line, r#","since":"#, since);
    }
    raw(line, "}");
}

/// What stands before a value, and the value.
fn put(line: &mut Vec<u8>, before: &str, value: impl Json) {
    raw(line, before);
    value.write(line);
}

fn raw(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

trait Json {
    fn write(self, line: &mut Vec<u8>);
}

/// A name of ours: there is nothing to escape in it.
impl Json for &'static str {
    fn write(self, line: &mut Vec<u8>) {
        raw(line, "\"");
        raw(line, self);
        raw(line, "\"");
    }
}

impl<T: Json> Json for Option<T> {
    fn write(self, line: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(line),
            None => raw(line, "null"),
        }
    }
}

impl Json for bool {
    fn write(self, line: &mut Vec<u8>) {
        raw(line, if self { "true" } else { "false" });
    }
}

fn number(line: &mut Vec<u8>, number: impl itoa::Integer) {
    raw(line, itoa::Buffer::new().format(number));
}

impl Json for u16 {
    fn write(self, line: &mut Vec<u8>) {
        number(line, self);
    }
}

impl Json for u32 {
    fn write(self, line: &mut Vec<u8>) {
        number(line, self);
    }
}

impl Json for i32 {
    fn write(self, line: &mut Vec<u8>) {
        number(line, self);
    }
}

impl Json for u64 {
    fn write(self, line: &mut Vec<u8>) {
        number(line, self);
    }
}

impl Json for Timestamp {
    fn write(self, line: &mut Vec<u8>) {
        raw(line, "\"");
        raw(line, &super::time(self));
        raw(line, "\"");
    }
}

impl Json for SocketAddr {
    fn write(self, line: &mut Vec<u8>) {
        raw(line, "\"");
        match self {
            Self::V4(address) => {
                let [a, b, c, d] = address.ip().octets();
                for (octet, end) in [(a, "."), (b, "."), (c, "."), (d, ":")] {
                    number(line, octet);
                    raw(line, end);
                }
                number(line, address.port());
            }
            Self::V6(address) => raw(line, &address.to_string()),
        }
        raw(line, "\"");
    }
}

/// What a process chose as its name.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl Json for Text<'_> {
    fn write(self, line: &mut Vec<u8>) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        // All of them, always: so the processor looks at many at once.
        if self.0.iter().fold(true, |all, byte| all & is_plain(*byte)) {
            line.push(b'"');
            line.extend_from_slice(self.0);
            line.push(b'"');
        } else {
            let text = String::from_utf8_lossy(self.0);
            raw(line, &Value::from(text).to_string());
        }
    }
}

struct Socket(u64);

impl Json for Socket {
    fn write(self, line: &mut Vec<u8>) {
        put(line, r#"{"inode":"#, self.0);
        raw(line, "}");
    }
}

struct PortRange((u16, u16));

impl Json for PortRange {
    fn write(self, line: &mut Vec<u8>) {
        let (low, high) = self.0;
        put(line, r#"{"low":"#, low);
        put(line, r#","high":"#, high);
        raw(line, "}");
    }
}

impl Json for Queue {
    fn write(self, line: &mut Vec<u8>) {
        put(line, r#"{"len":"#, self.len);
        put(line, r#","max":"#, self.max);
        raw(line, "}");
    }
}

impl Json for (Queue, Option<Asked>) {
    fn write(self, line: &mut Vec<u8>) {
        let (queue, asked) = self;
        put(line, r#"{"len":"#, queue.len);
        put(line, r#","max":"#, queue.max);
        put(line, r#","asked":"#, asked.map(|asked| asked.backlog));
        put(line, r#","somaxconn":"#, asked.map(|asked| asked.somaxconn));
        raw(line, "}");
    }
}

impl Json for &Container {
    fn write(self, line: &mut Vec<u8>) {
        let runtime = self.runtime.as_deref();
        put(line, r#"{"id":"#, Text::of(&self.id));
        put(line, r#","runtime":"#, runtime.map(Text::of));
        put(line, r#","name":"#, self.name.as_deref().map(Text::of));
        raw(line, "}");
    }
}

impl Json for &Pod {
    fn write(self, line: &mut Vec<u8>) {
        let namespace = self.namespace.as_deref();
        put(line, r#"{"uid":"#, Text::of(&self.uid));
        put(line, r#","name":"#, self.name.as_deref().map(Text::of));
        put(line, r#","namespace":"#, namespace.map(Text::of));
        raw(line, "}");
    }
}

impl Json for &[Process] {
    fn write(self, line: &mut Vec<u8>) {
        raw(line, "[");
        for (index, process) in self.iter().enumerate() {
            raw(line, if index == 0 { "" } else { "," });
            members(line, process);
            raw(line, "}");
        }
        raw(line, "]");
    }
}

impl Json for &(Process, Role) {
    fn write(self, line: &mut Vec<u8>) {
        let (process, role) = self;
        members(line, process);
        put(line, r#","role":"#, role.name());
        raw(line, "}");
    }
}

/// A process, with more members to come.
fn members(line: &mut Vec<u8>, process: &Process) {
    put(line, r#"{"pid":"#, process.pid);
    put(line, r#","tid":"#, process.tid);
    put(line, r#","comm":"#, Text(&process.comm));
    put(line, r#","exe":"#, process.exe.as_deref().map(Text));
    put(line, r#","cmdline":"#, process.cmdline.as_deref().map(Text));
    put(line, r#","uid":"#, process.uid);
    put(line, r#","kernel":"#, process.kernel);
    let place = process.place.as_deref();
    let cgroup = place.map(|place| place.cgroup.as_str());
    put(line, r#","cgroup":"#, cgroup.map(Text::of));
    let container = place.and_then(|place| place.container.as_ref());
    put(line, r#","container":"#, container);
    let unit = place.and_then(|place| place.unit.as_deref());
    put(line, r#","unit":"#, unit.map(Text::of));
    put(
        line,
        r#","pod":"#,
        place.and_then(|place| place.pod.as_ref()),
    );
}

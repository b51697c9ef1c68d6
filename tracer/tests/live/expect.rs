//! What tracer must say about a failure that a scenario provoked, and how what it
//! said differs from that.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::role::Role;

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    /// Known beforehand.
    Exactly(u64),
    /// Clients repeat their segments: the kernel's counters give the number.
    AtLeast(u64),
}

/// One kind of event in one namespace. A field that is `None` may be anything.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) netns: u64,
    pub(crate) kind: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) times: Times,
    errno: Option<&'static str>,
    process: Option<Named>,
    roles: &'static [&'static str],
    holders: Option<BTreeSet<(i64, String)>>,
    family: Option<&'static str>,
    protocols: &'static [&'static str],
    local: Vec<String>,
    remote: Vec<String>,
    accept_queue: Option<(u64, u64)>,
    request_queue_len: Option<u64>,
}

#[derive(Clone, Debug)]
struct Named {
    pid: i32,
    tid: Option<i32>,
    comm: String,
}

const QUEUE_ROLES: &[&str] = &["acceptor", "listener", "holder"];

impl Expected {
    fn new(netns: u64, kind: &'static str, cause: &'static str) -> Self {
        Self {
            netns,
            kind,
            cause,
            times: Times::Exactly(1),
            errno: None,
            process: None,
            roles: &["caller"],
            holders: None,
            family: Some("ipv4"),
            protocols: &["tcp"],
            local: Vec::new(),
            remote: Vec::new(),
            accept_queue: None,
            request_queue_len: None,
        }
    }

    /// A connect() that gives EADDRNOTAVAIL.
    pub(crate) fn connect(netns: u64, cause: &'static str) -> Self {
        let mut expected = Self::new(netns, "connect_failed", cause);
        expected.errno = Some("EADDRNOTAVAIL");
        expected
    }

    /// A failing bind().
    pub(crate) fn bind(netns: u64, cause: &'static str, errno: &'static str) -> Self {
        let mut expected = Self::new(netns, "bind_failed", cause);
        expected.errno = Some(errno);
        expected
    }

    /// A listen() that gives EADDRINUSE.
    pub(crate) fn listen(netns: u64, cause: &'static str) -> Self {
        let mut expected = Self::new(netns, "listen_failed", cause);
        expected.errno = Some("EADDRINUSE");
        expected
    }

    /// A segment that a listener dropped (or answered with a reset).
    pub(crate) fn drop(netns: u64, kind: &'static str, cause: &'static str) -> Self {
        let mut expected = Self::new(netns, kind, cause);
        expected.roles = QUEUE_ROLES;
        expected
    }

    pub(crate) fn times(mut self, count: u64) -> Self {
        self.times = Times::Exactly(count);
        self
    }

    pub(crate) fn at_least(mut self, count: usize) -> Self {
        self.times = Times::AtLeast(count as u64);
        self
    }

    /// The process named; for queue drops also the only holder, until said otherwise.
    pub(crate) fn by(self, role: &Role) -> Self {
        let queue = self.roles == QUEUE_ROLES;
        let expected = self.by_name(role.pid, &role.comm);
        if queue {
            expected.held_by(&[role])
        } else {
            expected
        }
    }

    pub(crate) fn by_name(mut self, pid: i32, comm: &str) -> Self {
        self.process = Some(Named {
            pid,
            tid: None,
            comm: comm.to_owned(),
        });
        self
    }

    pub(crate) fn thread(mut self, tid: i32) -> Self {
        if let Some(process) = &mut self.process {
            process.tid = Some(tid);
        }
        self
    }

    /// What the named process is to the listener.
    pub(crate) fn role(mut self, roles: &'static [&'static str]) -> Self {
        self.roles = roles;
        self
    }

    pub(crate) fn held_by(mut self, roles: &[&Role]) -> Self {
        let named = |role: &&Role| (i64::from(role.pid), role.comm.clone());
        self.holders = Some(roles.iter().map(named).collect());
        self
    }

    pub(crate) fn v6(mut self) -> Self {
        self.family = Some("ipv6");
        self
    }

    pub(crate) fn protocols(mut self, protocols: &'static [&'static str]) -> Self {
        self.protocols = protocols;
        self
    }

    /// One of these must be the local address.
    pub(crate) fn local(mut self, addresses: &[&str]) -> Self {
        self.local = addresses
            .iter()
            .map(|&address| address.to_owned())
            .collect();
        self
    }

    /// One of these must be the remote address.
    pub(crate) fn remote<T: ToString>(mut self, addresses: &[T]) -> Self {
        self.remote = addresses.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn accept_queue(mut self, len: u64, max: u64) -> Self {
        self.accept_queue = Some((len, max));
        self
    }

    pub(crate) fn request_queue_len(mut self, len: u64) -> Self {
        self.request_queue_len = Some(len);
        self
    }

    /// Every way in which `event` is not the expected one.
    pub(crate) fn differences(&self, event: &Value) -> Vec<String> {
        let mut found = Differences(Vec::new());
        found.same("kind", &event["kind"], &self.kind.into());
        found.same("cause", &event["cause"], &self.cause.into());
        found.same("errno", &event["errno"], &self.errno.into());
        if let Some(family) = self.family {
            found.same("family", &event["family"], &family.into());
        }
        found.one_of("protocol", &event["protocol"], self.protocols);
        found.one_of("local", &event["local"], &self.local);
        found.one_of("remote", &event["remote"], &self.remote);
        self.compare_process(event, &mut found);
        if let Some((len, max)) = self.accept_queue {
            // A full queue can hold one more: a second CPU may have passed the
            // same test at the same time (the listener is not locked there).
            let seen = &event["accept_queue"]["len"];
            let is_full = len > max;
            if !(is_full && seen.as_u64() == Some(len + 1)) {
                found.same("accept_queue.len", seen, &len.into());
            }
            found.same(
                "accept_queue.max",
                &event["accept_queue"]["max"],
                &max.into(),
            );
        }
        if let Some(len) = self.request_queue_len {
            let seen = &event["request_queue"]["len"];
            found.same("request_queue.len", seen, &len.into());
        }
        found.0
    }

    fn compare_process(&self, event: &Value, found: &mut Differences) {
        if let Some(wanted) = &self.process {
            let process = &event["process"];
            found.same("process.pid", &process["pid"], &wanted.pid.into());
            found.same("process.comm", &process["comm"], &(*wanted.comm).into());
            found.one_of("process.role", &process["role"], self.roles);
            found.same("process.kernel", &process["kernel"], &false.into());
            found.same("process.uid", &process["uid"], &0.into());
            // All our processes run this program; null says that it was not seen in time.
            if !process["exe"].is_null() {
                found.same("process.exe", &process["exe"], &own_path());
            }
            if let Some(tid) = wanted.tid {
                found.same("process.tid", &process["tid"], &tid.into());
            }
        }
        if let Some(wanted) = &self.holders {
            let named = |holder: &Value| {
                let comm = holder["comm"].as_str().unwrap_or_default();
                Some((holder["pid"].as_i64()?, comm.to_owned()))
            };
            let listed = event["holders"].as_array().into_iter().flatten();
            let seen: BTreeSet<_> = listed.filter_map(named).collect();
            if seen != *wanted {
                found
                    .0
                    .push(format!("holders {seen:?}, expected {wanted:?}"));
            }
        }
    }
}

fn own_path() -> Value {
    std::env::current_exe().map_or(Value::Null, |path| path.to_string_lossy().into())
}

struct Differences(Vec<String>);

impl Differences {
    fn same(&mut self, field: &str, seen: &Value, wanted: &Value) {
        if seen != wanted {
            self.0.push(format!("{field} {seen}, expected {wanted}"));
        }
    }

    fn one_of<T: AsRef<str>>(&mut self, field: &str, seen: &Value, wanted: &[T]) {
        let text = seen.as_str().unwrap_or_default();
        if !wanted.is_empty() && !wanted.iter().any(|one| one.as_ref() == text) {
            let wanted: Vec<&str> = wanted.iter().map(AsRef::as_ref).collect();
            self.0
                .push(format!("{field} {seen}, expected one of {wanted:?}"));
        }
    }
}

/// How many failures an event stands for.
pub(crate) fn weight(event: &Value) -> u64 {
    event["count"].as_u64().unwrap_or(1)
}

/// The failures among `events` that are exactly as expected.
pub(crate) fn matched(expected: &Expected, events: &[Value]) -> u64 {
    events
        .iter()
        .filter(|event| expected.differences(event).is_empty())
        .map(weight)
        .sum()
}

/// The events with what is wrong about each, for a failing scenario's message.
pub(crate) fn explain(expected: &[&Expected], events: &[Value]) -> String {
    if events.is_empty() {
        return "no event was seen".to_owned();
    }
    let mut lines = Vec::new();
    for event in events.iter().take(4) {
        let closest = expected
            .iter()
            .map(|one| one.differences(event))
            .min_by_key(Vec::len)
            .unwrap_or_default();
        lines.push(if closest.is_empty() {
            "one as expected".to_owned()
        } else {
            format!("[{}] in {event}", closest.join("; "))
        });
    }
    if events.len() > lines.len() {
        lines.push(format!("and {} more", events.len() - lines.len()));
    }
    lines.join(" | ")
}

//! What does a filter look at? The same of a failure and of a record about one.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use serde_json::Value;
use tracer_common::{Cause, Kind};

use crate::model::{Failure, Process};

/// What is known about a failure, or about the drops of a listener.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// Of drops there may be several.
    pub(super) kinds: Vec<Kind>,
    pub(super) cause: Option<Cause>,
    pub(super) netns: u64,
    pub(super) netns_name: Option<&'a str>,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    /// Who is responsible, and who holds the listener.
    pub(super) people: Vec<Person<'a>>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Person<'a> {
    pub(super) pid: u32,
    pub(super) comm: Cow<'a, str>,
    pub(super) uid: Option<u32>,
    pub(super) cgroup: Option<&'a str>,
    pub(super) container: Option<&'a str>,
    pub(super) container_name: Option<&'a str>,
    pub(super) unit: Option<&'a str>,
}

impl Facts<'_> {
    pub(super) fn has_port(&self, port: u16) -> bool {
        let ends = [self.local, self.remote];
        ends.into_iter().flatten().any(|end| end.port() == port)
    }

    /// Where a connect() wanted to go; else what was asked for here, or what the
    /// dropped packet was sent to.
    pub(super) fn destination(&self) -> Option<IpAddr> {
        let end = if self.kinds.contains(&Kind::ConnectFailed) {
            self.remote
        } else {
            self.local
        };
        end.map(|end| end.ip())
    }
}

impl Person<'_> {
    pub(super) fn is_in_container(&self, wanted: &str) -> bool {
        /// Where containers go by an id; else by a name.
        const DIGITS: usize = 64;
        let begins = |id: &str| id == wanted || (id.len() == DIGITS && id.starts_with(wanted));
        self.container.is_some_and(begins) || self.container_name == Some(wanted)
    }
}

impl<'a> From<&'a Failure> for Facts<'a> {
    fn from(failure: &'a Failure) -> Self {
        let responsible = failure.process.iter().map(|(process, _)| process);
        Self {
            kinds: vec![failure.kind],
            cause: Some(failure.cause),
            netns: failure.netns.into(),
            netns_name: failure.netns_name.as_deref(),
            local: failure.local,
            remote: failure.remote,
            people: responsible
                .chain(&failure.holders)
                .map(Person::from)
                .collect(),
        }
    }
}

impl<'a> From<&'a Process> for Person<'a> {
    fn from(process: &'a Process) -> Self {
        let place = process.place.as_deref();
        let container = place.and_then(|place| place.container.as_ref());
        Self {
            pid: process.pid,
            comm: String::from_utf8_lossy(&process.comm),
            uid: process.uid,
            cgroup: place.map(|place| place.cgroup.as_str()),
            container: container.map(|container| container.id.as_str()),
            container_name: container.and_then(|container| container.name.as_deref()),
            unit: place.and_then(|place| place.unit.as_deref()),
        }
    }
}

/// Of a record `event` or `queue`, whoever wrote it: what is missing or is something
/// else is not known.
impl<'a> From<&'a Value> for Facts<'a> {
    fn from(record: &'a Value) -> Self {
        let is = |kind: &Kind| {
            let drops = record["drops"][kind.name()].as_u64();
            record["kind"] == kind.name() || drops.is_some_and(|drops| drops > 0)
        };
        let cause = |cause: &Cause| record["cause"] == cause.name();
        let end = |name: &str| record[name].as_str()?.parse().ok();
        let holders = record["holders"].as_array().into_iter().flatten();
        let responsible = Some(&record["process"]);
        Self {
            kinds: Kind::ALL.iter().copied().filter(is).collect(),
            cause: Cause::ALL.iter().copied().find(cause),
            netns: record["netns"].as_u64().unwrap_or_default(),
            netns_name: record["netns_name"].as_str(),
            local: end("local"),
            remote: end("remote"),
            people: responsible
                .into_iter()
                .chain(holders)
                .filter_map(person)
                .collect(),
        }
    }
}

fn person(process: &Value) -> Option<Person<'_>> {
    let number = |name: &str| process[name].as_u64()?.try_into().ok();
    Some(Person {
        pid: number("pid")?,
        comm: process["comm"].as_str().unwrap_or_default().into(),
        uid: number("uid"),
        cgroup: process["cgroup"].as_str(),
        container: process["container"]["id"].as_str(),
        container_name: process["container"]["name"].as_str(),
        unit: process["unit"].as_str(),
    })
}

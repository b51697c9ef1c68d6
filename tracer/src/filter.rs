//! Which failures were asked for? The same question for what happens now and for
//! what a file tells; docs/filters.md has the rules. Pure.

mod cidr;
mod facts;
#[cfg(test)]
mod tests;
mod totals;
mod tree;
mod unmatched;

use tracer_common::{Cause, FILTER_VALUES, Kind};

pub(crate) use cidr::Cidr;
pub(crate) use facts::{Facts, Person};
pub(crate) use totals::{Part, Who, keep_parties};
pub(crate) use tree::Tree;
pub(crate) use unmatched::Host;

/// Above the flags in `--help`. Not for the whole group: clap would put whatever
/// follows it there, too.
const HEADING: &str = "Filters (a flag given twice: either value; several flags: all of them; for events, findings and totals)";

/// What was asked for. A failure must meet every flag that is given; of a flag that
/// is repeated, any value.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Filter {
    /// Failures of this process: it made the call, or it opened, holds or accepts from
    /// the listener. Example: --pid 4711
    #[arg(help_heading = HEADING, long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,

    /// .. of processes with this name. Example: --comm nginx
    #[arg(help_heading = HEADING, long = "comm", value_name = "NAME")]
    pub(crate) comms: Vec<String>,

    /// .. of processes of this user. Example: --uid 33
    #[arg(help_heading = HEADING, long = "uid", value_name = "UID")]
    pub(crate) uids: Vec<u32>,

    /// .. of processes in this cgroup or below. Example: --cgroup /system.slice
    #[arg(help_heading = HEADING, long = "cgroup", value_name = "PATH", value_parser = cgroup)]
    pub(crate) cgroups: Vec<String>,

    /// .. in this container: its name, or how its id begins. Example: --container web
    #[arg(help_heading = HEADING, long = "container", value_name = "NAME|ID", value_parser = not_empty)]
    pub(crate) containers: Vec<String>,

    /// .. of this systemd unit. Example: --unit nginx.service, or --unit nginx
    #[arg(help_heading = HEADING, long = "unit", value_name = "UNIT", value_parser = not_empty)]
    pub(crate) units: Vec<String>,

    /// Failures with this port, local or remote. Example: --port 5432
    #[arg(help_heading = HEADING, long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ports: Vec<u16>,

    /// Failures on the way to this address or network: of a connect() its
    /// destination, else the local address. Example: --dst 10.0.0.0/8
    #[arg(help_heading = HEADING, long = "dst", value_name = "CIDR", value_parser = Cidr::parse)]
    pub(crate) destinations: Vec<Cidr>,

    /// Failures in this network namespace: its name, or its inode number. Example:
    /// --netns blue
    #[arg(help_heading = HEADING, long = "netns", value_name = "NAME|INODE", value_parser = Netns::parse)]
    pub(crate) netns: Vec<Netns>,

    /// Failures of this kind. Example: --kind syn_dropped
    #[arg(help_heading = HEADING, long = "kind", value_name = "KIND", value_parser = kind)]
    pub(crate) kinds: Vec<Kind>,

    /// Failures for this cause. Example: --cause ports_exhausted
    #[arg(help_heading = HEADING, long = "cause", value_name = "CAUSE", value_parser = cause)]
    pub(crate) causes: Vec<Cause>,
}

/// A network namespace, as somebody asks for it. Digits alone are a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Netns {
    Number(u32),
    Name(String),
}

impl Netns {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse();
            return number
                .map(Self::Number)
                .map_err(|_| "no inode number of a namespace is that large".into());
        }
        not_empty(text).map(Self::Name)
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
        }
    }

    fn is(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Number(number) => u64::from(*number) == facts.netns,
            Self::Name(name) => facts.netns_name == Some(name.as_str()),
        }
    }
}

impl Filter {
    /// Whether nothing was asked for, so that everything is wanted.
    pub(crate) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a failure with these facts was asked for.
    pub(crate) fn wants(&self, facts: &Facts<'_>) -> bool {
        any(&self.kinds, |kind| facts.kinds.contains(kind))
            && any(&self.causes, |cause| facts.cause == Some(*cause))
            && any(&self.netns, |netns| netns.is(facts))
            && any(&self.ports, |port| facts.has_port(*port))
            && any(&self.destinations, |network| {
                facts.destination().is_some_and(|ip| network.has(ip))
            })
            && self.wants_anybody(&facts.people)
    }

    /// Whether one of these processes is as asked for, in every respect.
    fn wants_anybody(&self, people: &[Person<'_>]) -> bool {
        self.is_about_nobody() || people.iter().any(|person| self.wants_person(person))
    }

    fn is_about_nobody(&self) -> bool {
        self.pids.is_empty()
            && self.comms.is_empty()
            && self.uids.is_empty()
            && self.cgroups.is_empty()
            && self.containers.is_empty()
            && self.units.is_empty()
    }

    fn wants_person(&self, person: &Person<'_>) -> bool {
        any(&self.pids, |pid| person.pid == *pid)
            && any(&self.comms, |comm| is_comm(&person.comm, comm))
            && any(&self.uids, |uid| person.uid == Some(*uid))
            && any(&self.cgroups, |path| {
                person.cgroup.is_some_and(|cgroup| is_below(cgroup, path))
            })
            && any(&self.containers, |wanted| person.is_in_container(wanted))
            && any(&self.units, |wanted| {
                person.unit.is_some_and(|unit| is_unit(unit, wanted))
            })
    }

    /// As much of it as the kernel side can tell by itself; the rest is seen to here.
    pub(crate) fn in_kernel(&self) -> tracer_common::Filter {
        let everything = tracer_common::Filter::EVERYTHING;
        let bits = |all: u32, values: &mut dyn Iterator<Item = u8>| {
            let bits = values.fold(0, |bits, value| bits | 1 << u32::from(value));
            if bits == 0 { all } else { bits }
        };
        let numbers = self.netns.iter().map(|netns| match netns {
            Netns::Number(number) => Some(*number),
            Netns::Name(_) => None,
        });
        tracer_common::Filter {
            kinds: bits(
                everything.kinds,
                &mut self.kinds.iter().map(|kind| *kind as u8),
            ),
            causes: bits(
                everything.causes,
                &mut self.causes.iter().map(|cause| *cause as u8),
            ),
            netns: slots(numbers).unwrap_or(everything.netns),
            callers: slots(self.pids.iter().copied().map(Some)).unwrap_or(everything.callers),
            ancestor: everything.ancestor,
        }
    }

    /// What was asked for, in words: `comm nginx`.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut tell = |name: &str, values: Vec<String>| {
            words.extend(values.iter().map(|value| format!("{name} {value}")));
        };
        let numbers = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect();
        tell("pid", numbers(&self.pids));
        tell("comm", self.comms.clone());
        tell("uid", numbers(&self.uids));
        let cgroups = self.cgroups.iter().map(|path| match path.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        });
        tell("cgroup", cgroups.collect());
        tell("container", self.containers.clone());
        tell("unit", self.units.clone());
        tell("port", self.ports.iter().map(u16::to_string).collect());
        tell(
            "dst",
            self.destinations.iter().map(Cidr::to_string).collect(),
        );
        let netns = self.netns.iter().map(Netns::text);
        tell("netns", netns.collect());
        let kinds = self.kinds.iter().map(|kind| kind.name().to_owned());
        tell("kind", kinds.collect());
        let causes = self.causes.iter().map(|cause| cause.name().to_owned());
        tell("cause", causes.collect());
        words
    }
}

/// Whether one of `wanted` is so; nothing wanted: everything is.
fn any<T>(wanted: &[T], is_so: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is_so)
}

/// The values, if the kernel side has room for them and can tell each.
fn slots(values: impl Iterator<Item = Option<u32>>) -> Option<[u32; FILTER_VALUES]> {
    let mut slots = [0; FILTER_VALUES];
    let mut free = slots.iter_mut();
    for value in values {
        // 0 ends the list over there.
        *free.next()? = value.filter(|value| *value != 0)?;
    }
    Some(slots)
}

/// The kernel cuts names off after fifteen bytes.
fn is_comm(comm: &str, wanted: &str) -> bool {
    const LONGEST: usize = 15;
    comm == wanted || (comm.len() == LONGEST && wanted.starts_with(comm))
}

/// Whether a path is `parent` or below.
fn is_below(path: &str, parent: &str) -> bool {
    let rest = path.strip_prefix(parent);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `nginx` is `nginx.service`, as for systemctl.
fn is_unit(unit: &str, wanted: &str) -> bool {
    unit == wanted || unit.strip_suffix(".service") == Some(wanted)
}

/// A path without slashes at its end: all are below the root.
fn cgroup(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(
            "expected a path from the root of the hierarchy, as in /proc/PID/cgroup".into(),
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("expected a name".into());
    }
    Ok(text.to_owned())
}

/// Parses the name of a kind of failures.
fn kind(text: &str) -> Result<Kind, String> {
    named(Kind::ALL, Kind::name, text)
}

/// Parses the name of a cause.
fn cause(text: &str) -> Result<Cause, String> {
    named(Cause::ALL, Cause::name, text)
}

fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        format!("expected one of {}", names.join(", "))
    })
}

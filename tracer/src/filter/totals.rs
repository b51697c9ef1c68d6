//! Decides which rows of totals a filter wants. Pure.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::Value;
use tracer_common::{Cause, Kind};

use super::{Filter, Netns, Person, any};
use crate::{model::Netns as Life, record::Totals};

/// A row of totals: failures that were counted together.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) netns: u32,
    pub(crate) netns_name: Option<&'a str>,
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    pub(crate) who: Who<'a>,
}

/// The process or the listener that a row is about.
#[derive(Debug)]
pub(crate) enum Who<'a> {
    /// The row counts the failures of several processes and listeners.
    Everyone,
    /// Calls of one process.
    Caller(Person<'a>),
    /// Drops at one listener, and the processes that opened it, hold it or accept from it.
    Listener(SocketAddr, Vec<Person<'a>>),
}

impl Filter {
    /// Whether a row of totals can hold failures that pass. What a row does not know (the
    /// destination of a call, the processes behind [`Who::Everyone`]) does not exclude it;
    /// what it knows must pass, by the rules for failures.
    pub(crate) fn wants_part(&self, part: &Part<'_>) -> bool {
        let has_netns = self.wants_netns(part.netns, part.netns_name);
        has_netns
            && any(&self.kinds, |kind| *kind == part.kind)
            && any(&self.causes, |cause| *cause == part.cause)
            && match &part.who {
                Who::Everyone => true,
                Who::Caller(person) => self.is_about_nobody() || self.wants_person(person),
                Who::Listener(local, people) => {
                    // The client's port is not known.
                    any(&self.destinations, |network| network.has(local.ip()))
                        && self.wants_anybody(people)
                }
            }
    }

    /// Whether failures in this network namespace can pass.
    pub(crate) fn wants_netns(&self, netns: u32, name: Option<&str>) -> bool {
        any(&self.netns, |wanted| match wanted {
            Netns::Number(number) => *number == netns,
            Netns::Name(wanted) => name == Some(wanted.as_str()),
        })
    }

    /// Whether the kernel's listen-queue counters are about failures that can pass.
    pub(crate) fn wants_drops(&self) -> bool {
        any(&self.kinds, |kind| kind.is_drop())
    }

    /// [`Self::wants_part`] of a row in `counts` of a record.
    pub(crate) fn wants_counted(&self, row: &Value) -> bool {
        let kind = Kind::ALL.iter().find(|kind| row["kind"] == kind.name());
        let cause = Cause::ALL.iter().find(|cause| row["cause"] == cause.name());
        let (Some(kind), Some(cause)) = (kind, cause) else {
            // Of a later version.
            return self.is_off();
        };
        self.wants_part(&Part {
            netns: number(&row["netns"]),
            netns_name: row["netns_name"].as_str(),
            kind: *kind,
            cause: *cause,
            who: Who::Everyone,
        })
    }

    /// The same of a row in `kernel`.
    pub(crate) fn wants_compared(&self, row: &Value) -> bool {
        let name = row["netns_name"].as_str();
        self.wants_drops() && self.wants_netns(number(&row["netns"]), name)
    }

    /// Leaves in totals what this filter wants, and what is in a namespace that `is_place`
    /// likes. Failures that leave are in none of the numbers any more.
    pub(crate) fn narrow(&self, totals: &mut Totals, is_place: impl Fn(u32) -> bool) {
        let names = std::mem::take(&mut totals.netns_names);
        let name = |netns: Life| names.get(&netns).map(AsRef::as_ref);
        let mut gone: u64 = 0;
        totals.counts.retain(|&(netns, kind, cause), count| {
            let part = Part {
                netns: netns.inum,
                netns_name: name(netns),
                kind,
                cause,
                who: Who::Everyone,
            };
            let is_wanted = is_place(netns.inum) && self.wants_part(&part);
            if !is_wanted {
                gone = gone.saturating_add(*count);
            }
            is_wanted
        });
        let has_drops = self.wants_drops();
        totals.rows.retain(|row| {
            has_drops
                && is_place(row.netns.inum)
                && self.wants_netns(row.netns.inum, name(row.netns))
        });
        totals.netns_names = names;
        totals
            .netns_names
            .retain(|netns, name| is_place(netns.inum) && self.wants_netns(netns.inum, Some(name)));
        let health = &mut totals.health;
        health.counted = health.counted.saturating_sub(gone);
        // They were left out, but for those that were lost.
        health.filtered = health.filtered.saturating_sub(gone);
    }
}

/// Leaves in totals what is in `by`, from which everybody who is not wanted is gone. Where
/// processes are asked for, the namespaces are those in which they failed.
pub(crate) fn keep_parties(totals: &mut Totals, is_about_processes: bool) {
    if is_about_processes {
        let places: BTreeSet<Life> = totals.by.iter().map(|by| by.netns).collect();
        totals.rows.retain(|row| places.contains(&row.netns));
    }
    let all: u64 = totals.counts.values().sum();
    totals.counts.clear();
    for by in &totals.by {
        let key = (by.netns, by.kind, by.cause);
        *totals.counts.entry(key).or_default() += by.counted;
    }
    let left: u64 = totals.counts.values().sum();
    let gone = all.saturating_sub(left);
    let health = &mut totals.health;
    health.counted = health.counted.saturating_sub(gone);
    health.filtered = health.filtered.saturating_sub(gone);
}

fn number(value: &Value) -> u32 {
    let number = value.as_u64().and_then(|number| number.try_into().ok());
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::tests::typed, *};
    use crate::{
        model::Process,
        reconcile::{Pair, Row},
        record::By,
        source::counters::{Counts, Health},
    };

    fn process(comm: &str) -> Process {
        Process {
            pid: 7,
            comm: comm.into(),
            uid: Some(33),
            ..Process::default()
        }
    }

    fn is_wanted(filter: &str, kind: Kind, who: Who<'_>) -> Option<bool> {
        let cause = match kind.is_drop() {
            true => Cause::AcceptQueueFull,
            false => Cause::PortsExhausted,
        };
        let part = Part {
            netns: 5,
            netns_name: Some("blue"),
            kind,
            cause,
            who,
        };
        typed(filter).map(|filter| filter.wants_part(&part))
    }

    #[test]
    fn rows_of_everyone() {
        for (filter, expected) in [
            ("", true),
            ("--netns blue", true),
            ("--netns 5", true),
            ("--netns 6", false),
            ("--netns red", false),
            ("--netns red --netns 5", true),
            ("--kind connect_failed", true),
            ("--kind syn_dropped", false),
            ("--cause ports_exhausted", true),
            ("--cause other", false),
            ("--comm nginx --port 80 --dst 10.0.0.1", true),
        ] {
            let found = is_wanted(filter, Kind::ConnectFailed, Who::Everyone);
            assert_eq!(found, Some(expected), "{filter}");
        }
    }

    #[test]
    fn rows_of_a_process() {
        let process = process("nginx");
        for (filter, expected) in [
            ("--comm nginx", true),
            ("--comm other", false),
            ("--comm nginx --uid 33 --pid 7", true),
            ("--comm nginx --uid 34", false),
            // Not known of such a row.
            ("--port 80 --dst 10.0.0.1", true),
            ("--unit nginx", false),
            ("--netns 6 --comm nginx", false),
        ] {
            let who = Who::Caller(Person::from(&process));
            let found = is_wanted(filter, Kind::ConnectFailed, who);
            assert_eq!(found, Some(expected), "{filter}");
        }
    }

    #[test]
    fn rows_of_a_listener() {
        let (one, other) = (process("nginx"), process("worker"));
        for (filter, expected) in [
            ("", true),
            ("--comm worker", true),
            ("--comm other", false),
            ("--dst 10.0.0.0/8", true),
            ("--dst 192.0.2.0/24", false),
            // Perhaps a client's.
            ("--port 9", true),
        ] {
            let people = vec![Person::from(&one), Person::from(&other)];
            let who = Who::Listener(([10, 0, 0, 1], 80).into(), people);
            let found = is_wanted(filter, Kind::SynDropped, who);
            assert_eq!(found, Some(expected), "{filter}");
        }
    }

    fn totals() -> Totals {
        let pair = |tracer| Pair {
            tracer,
            kernel: Some(tracer),
        };
        let row = |netns, drops| Row {
            netns: Life::of_inode(netns),
            listen_overflows: pair(drops),
            listen_drops: pair(drops),
            req_qfull_drop: pair(0),
            unavailable: None,
            explanation: None,
        };
        Totals {
            health: Health {
                counted: 110,
                described: 10,
                filtered: 100,
                ..Health::default()
            },
            counts: Counts::from([
                (
                    (Life::of_inode(5), Kind::SynDropped, Cause::AcceptQueueFull),
                    8,
                ),
                (
                    (
                        Life::of_inode(5),
                        Kind::ConnectFailed,
                        Cause::PortsExhausted,
                    ),
                    2,
                ),
                (
                    (Life::of_inode(6), Kind::SynDropped, Cause::AcceptQueueFull),
                    100,
                ),
            ]),
            rows: vec![row(5, 8), row(6, 100)],
            netns_names: BTreeMap::from([
                (Life::of_inode(5), "blue".into()),
                (Life::of_inode(6), "red".into()),
            ]),
            ..Totals::example()
        }
    }

    #[test]
    fn rows_of_records() {
        let row = serde_json::json!({
            "netns": 5, "netns_name": "blue", "kind": "syn_dropped",
            "cause": "accept_queue_full", "count": 3,
        });
        for (filter, is_counted, is_compared) in [
            ("", true, true),
            ("--netns blue", true, true),
            ("--netns 6", false, false),
            ("--kind syn_dropped", true, true),
            ("--kind ack_dropped", false, true),
            ("--kind connect_failed", false, false),
            ("--cause other", false, true),
        ] {
            let found = typed(filter);
            let found = found.map(|it| (it.wants_counted(&row), it.wants_compared(&row)));
            assert_eq!(found, Some((is_counted, is_compared)), "{filter}");
        }
        let odd = serde_json::json!({ "netns": 5, "kind": "of_a_later_version" });
        let wants = |filter| typed(filter).map(|filter| filter.wants_counted(&odd));
        assert_eq!((wants(""), wants("--netns 5")), (Some(true), Some(false)));
    }

    #[test]
    fn places_are_those_of_who_is_left() {
        let left = |is_about_processes| {
            let mut totals = totals();
            totals.by = vec![By {
                netns: Life::of_inode(5),
                kind: Kind::SynDropped,
                cause: Cause::AcceptQueueFull,
                process: None,
                listener: None,
                counted: 8,
                described: 8,
            }];
            keep_parties(&mut totals, is_about_processes);
            totals
                .rows
                .iter()
                .map(|row| row.netns.inum)
                .collect::<Vec<_>>()
        };
        assert_eq!((left(true), left(false)), (vec![5], vec![5, 6]));
    }

    #[test]
    fn other_namespaces_leave_the_totals() {
        let nothing: &[u32] = &[];
        for (filter, counted, filtered, rows) in [
            ("", 110, 100, &[5, 6][..]),
            ("--netns blue", 10, 0, &[5]),
            ("--netns 6", 100, 90, &[6]),
            ("--netns 7", 0, 0, nothing),
            // About no counter of the kernel's.
            ("--netns 5 --kind connect_failed", 2, 0, nothing),
            ("--kind syn_dropped", 108, 98, &[5, 6]),
            ("--comm nginx", 110, 100, &[5, 6]),
        ] {
            let mut totals = totals();
            let narrow = typed(filter).map(|filter| filter.narrow(&mut totals, |_| true));
            assert_eq!(narrow, Some(()));
            let left: Vec<_> = totals.rows.iter().map(|row| row.netns.inum).collect();
            let sum: u64 = totals.counts.values().sum();
            let health = totals.health;
            assert_eq!(
                (health.counted, health.filtered),
                (counted, filtered),
                "{filter}"
            );
            assert_eq!((sum, &left[..]), (counted, rows), "{filter}");
        }
        let mut totals = totals();
        Filter::default().narrow(&mut totals, |netns| netns == 6);
        assert_eq!((totals.counts.len(), totals.rows.len()), (1, 1));
        assert_eq!(totals.netns_names.len(), 1);
    }
}

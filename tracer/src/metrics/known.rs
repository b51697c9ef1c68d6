//! What is known → what is measured. Pure.
//!
//! Names and labels are told in docs/metrics.md. Whatever is labelled with what
//! happens on the host is bounded where it is gathered ([`super::tally`],
//! [`super::look`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tracer_common::{Cause, Kind};

use super::{
    Counted,
    family::{Families, Labels},
    look::{Ports, Queues, Sight},
    tally::{OTHER, label},
};
use crate::{probe::Served, reconcile::Row, record::Status, snapshot::listeners::Listener};

/// What a failure of a kind can be caused by: told from the beginning, because a
/// counter that begins at 1 seems not to have risen.
const POSSIBLE: &[(Kind, &[Cause])] = &[
    (
        Kind::ConnectFailed,
        &[
            Cause::PortsExhausted,
            Cause::AddressTaken,
            Cause::NoSourceAddress,
            Cause::RefusedByPolicy,
        ],
    ),
    (
        Kind::BindFailed,
        &[
            Cause::AddressNotLocal,
            Cause::PortInUse,
            Cause::PortsExhausted,
        ],
    ),
    (
        Kind::ListenFailed,
        &[Cause::PortInUse, Cause::PortsExhausted],
    ),
    (
        Kind::SynDropped,
        &[
            Cause::AcceptQueueFull,
            Cause::RequestQueueFull,
            Cause::BacklogReserve,
            Cause::Other,
        ],
    ),
    (Kind::AckDropped, &[Cause::AcceptQueueFull]),
    (Kind::OverflowReset, &[Cause::AcceptQueueFull]),
];

/// Which hooks serve a purpose.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    purpose: &'static str,
    tier: &'static str,
    exactness: &'static str,
}

impl Hook {
    pub(super) fn of(served: &Served) -> Self {
        let by = served.by.as_ref();
        Self {
            purpose: served.purpose.name(),
            tier: by.map_or("none", |by| by.tier.name()),
            exactness: by.map_or("none", |by| by.exactness.name()),
        }
    }
}

/// All that is known at one moment.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) counted: Counted,
    pub(super) hooks: Vec<Hook>,
    pub(super) queues: Option<Arc<Sight<Queues>>>,
    pub(super) ports: Option<Arc<Sight<Ports>>>,
}

fn kind_and_cause(kind: Kind, cause: Cause) -> Labels {
    vec![
        ("kind", kind.name().to_owned()),
        ("cause", cause.name().to_owned()),
    ]
}

impl Known {
    /// All that is measured.
    pub(super) fn families(&self) -> Families {
        let mut families = Families::default();
        let to = &mut families;
        self.failures(to);
        self.listeners(to);
        self.ports(to);
        self.kernel(to);
        self.health(to);
        self.looks(to);
        families
    }

    /// A namespace by number and name.
    fn netns(&self, netns: u32) -> Labels {
        let name = self.counted.totals.name_of(netns);
        let name = name.map(|name| label(name.as_bytes()));
        vec![
            ("netns", netns.to_string()),
            ("netns_name", name.unwrap_or_default()),
        ]
    }

    fn failures(&self, to: &mut Families) {
        let Counted { totals, tally } = &self.counted;
        let mut counts: BTreeMap<(Kind, Cause), u64> = POSSIBLE
            .iter()
            .flat_map(|(kind, causes)| causes.iter().map(|cause| ((*kind, *cause), 0)))
            .collect();
        for ((_, kind, cause), count) in &totals.counts {
            *counts.entry((*kind, *cause)).or_default() += count;
        }
        to.counter(
            "tracer_failures",
            "Failures, as counted in the kernel: exact.",
            counts
                .into_iter()
                .map(|((kind, cause), count)| (kind_and_cause(kind, cause), count)),
        );
        let described = tally.described.iter().map(|((kind, cause, program), n)| {
            let mut labels = kind_and_cause(*kind, *cause);
            labels.extend([
                ("process", program.process.clone()),
                ("container", program.container.clone()),
                ("pod_uid", program.pod_uid.clone()),
                ("unit", program.unit.clone()),
            ]);
            (labels, *n)
        });
        to.counter(
            "tracer_failures_described",
            "Failures by who is responsible, those that were only counted included.",
            described,
        );
        to.total(
            "tracer_failures_described_folded",
            "Those of them that are told of process other, because there are too many series.",
            tally.folded,
        );
        let drops = tally.dropped.iter().map(|((netns, local), n)| {
            let mut labels = match &**local {
                OTHER => vec![("netns", String::new()), ("netns_name", String::new())],
                _ => self.netns(*netns),
            };
            labels.push(("local", local.to_string()));
            (labels, *n)
        });
        to.counter(
            "tracer_listener_drops",
            "Packets that a listener dropped or answered with a reset, by its address, those that were only counted included.",
            drops,
        );
    }

    fn listeners(&self, to: &mut Families) {
        let queues = self.queues.as_ref().and_then(|sight| sight.found.as_ref());
        let told = queues.map_or(&[][..], |queues| &queues.told);
        let addresses = by_address(told);
        let sample = |(netns, local): &(u32, String), queue: &Address, value| {
            let mut labels = self.netns(*netns);
            labels.push(("local", local.clone()));
            labels.push(("process", queue.process.clone()));
            (labels, value)
        };
        to.gauge(
            "tracer_listener_accept_queue_length",
            "Connections that wait for accept(), by address listened on.",
            addresses
                .iter()
                .map(|(key, queue)| sample(key, queue, queue.len)),
        );
        to.gauge(
            "tracer_listener_accept_queue_limit",
            "The limit of that queue; the kernel admits one more.",
            addresses
                .iter()
                .filter_map(|(key, queue)| Some(sample(key, queue, queue.max?))),
        );
        let Some(queues) = queues else { return };
        to.number(
            "tracer_listeners",
            "Listening TCP sockets of all network namespaces.",
            queues.told.len() + queues.more,
        );
        to.number(
            "tracer_listeners_left_out",
            "Those of them that are not told, because there are too many: the least full.",
            queues.more,
        );
    }

    fn ports(&self, to: &mut Families) {
        let ports = self.ports.as_ref().and_then(|sight| sight.found.as_ref());
        let tables = ports.map_or(&[][..], |ports| &ports.tables);
        let towards = ports.map_or(&[][..], |ports| &ports.towards);
        to.gauge(
            "tracer_ephemeral_ports_usable",
            "Ports that a connect() may choose from: the range without reserved ones.",
            tables
                .iter()
                .map(|table| (self.netns(table.place.netns), table.tcp.range.usable)),
        );
        to.gauge(
            "tracer_ephemeral_ports_used",
            "Those of them that some TCP socket is on, whatever its destination.",
            tables
                .iter()
                .map(|table| (self.netns(table.place.netns), table.tcp.used())),
        );
        let towards = towards.iter().map(|(netns, one)| {
            let mut labels = self.netns(*netns);
            labels.push(("source", one.source.to_string()));
            labels.push(("destination", one.remote.to_string()));
            (labels, one.used)
        });
        to.gauge(
            "tracer_ephemeral_ports_destination_used",
            "Those of them that a connect() from this source to this destination cannot have.",
            towards,
        );
        let Some(ports) = ports else { return };
        to.number(
            "tracer_ephemeral_ports_destinations_left_out",
            "Destinations that are not told, because there are too many: the least exhausted.",
            ports.more_destinations,
        );
        to.number(
            "tracer_ephemeral_ports_namespaces_left_out",
            "Network namespaces that are not told, because there are too many: the least exhausted.",
            ports.more,
        );
    }

    /// tracer's counts beside the kernel's own.
    fn kernel(&self, to: &mut Families) {
        let totals = &self.counted.totals;
        let comparable = || totals.rows.iter().filter(|row| row.unavailable.is_none());
        let difference = |name: &str, pair: fn(&Row) -> crate::reconcile::Pair| {
            let sum: i128 = comparable().filter_map(|row| pair(row).difference()).sum();
            let sum = i64::try_from(sum).unwrap_or(i64::MAX);
            (vec![("counter", name.to_owned())], sum)
        };
        to.gauge(
            "tracer_kernel_difference",
            "What the kernel's own counters rose by, less what tracer counted; of all comparable network namespaces.",
            [
                difference("ListenOverflows", |row| row.listen_overflows),
                difference("ListenDrops", |row| row.listen_drops),
                difference("TCPReqQFullDrop", |row| row.req_qfull_drop),
            ],
        );
        to.number(
            "tracer_kernel_difference_uncertainty",
            "Drops counted while those counters were read: a difference up to this says nothing.",
            totals.meanwhile,
        );
        to.number(
            "tracer_kernel_namespaces_not_comparable",
            "Network namespaces with drops whose own counters are gone or not readable.",
            totals.rows.len() - comparable().count(),
        );
    }

    fn health(&self, to: &mut Families) {
        let Counted { totals, tally } = &self.counted;
        let health = &totals.health;
        to.total(
            "tracer_counted",
            "All failures counted in the kernel.",
            health.counted,
        );
        to.total(
            "tracer_described",
            "Failures that were described one by one.",
            // With those that filters hid after they were read: it must never fall.
            health.described + health.filtered.saturating_sub(totals.filtered_in_kernel),
        );
        to.total(
            "tracer_lost",
            "Failures of which neither a description nor whose they are is known: too many at once.",
            tally.lost,
        );
        to.total(
            "tracer_filtered",
            "Failures that were counted, and not shown because filters left them out.",
            health.filtered,
        );
        to.total(
            "tracer_malformed",
            "Descriptions that could not be decoded.",
            totals.malformed,
        );
        to.total(
            "tracer_unplaced",
            "Failures that tracer_failures lacks: the kernel side's table was full.",
            health.unplaced,
        );
        to.total(
            "tracer_unjudged_syns",
            "SYNs of which the hooks in use could not tell whether they were dropped.",
            health.unjudged,
        );
        // Hooks may have been replaced since they were attached.
        let verified = tally.verified.as_ref();
        let now: Option<Vec<Hook>> =
            verified.map(|verified| verified.served().map(|one| Hook::of(&one)).collect());
        let hooks = now.as_ref().unwrap_or(&self.hooks).iter().map(|hook| {
            let labels = vec![
                ("purpose", hook.purpose.to_owned()),
                ("tier", hook.tier.to_owned()),
                ("exactness", hook.exactness.to_owned()),
            ];
            (labels, 1_u32)
        });
        to.gauge(
            "tracer_hook_info",
            "By which tier of hooks each purpose is served, and how exactly.",
            hooks,
        );
        let verified = verified.map_or(&[][..], |verified| &verified.purposes);
        to.gauge(
            "tracer_hook_verified",
            "1: at start each failure of this purpose was caused once, and the hooks saw it. 0: not verified, or FAILED. No value: it is still being verified.",
            verified.iter().map(|one| {
                let labels = vec![("purpose", one.purpose.name().to_owned())];
                (labels, u32::from(one.status == Status::Verified))
            }),
        );
        let missed = totals.missed.iter().map(|missed| {
            let labels = vec![("purpose", missed.purpose.name().to_owned())];
            (labels, missed.runs)
        });
        to.counter(
            "tracer_hook_missed_runs",
            "Runs of the hooks of a purpose that the kernel left out, if there were any.",
            missed,
        );
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        to.gauge(
            "tracer_build_info",
            "The version of tracer.",
            [(version, 1_u32)],
        );
        to.number(
            "tracer_up",
            "1: hooks are attached, and who traces has answered this scrape.",
            1_u32,
        );
        to.moment(
            "tracer_start_time",
            "When the hooks were in place, since the Unix epoch.",
            unix(totals.since),
        );
    }

    /// How the looks at listeners and ports went.
    fn looks(&self, to: &mut Families) {
        let looks: Vec<_> = [
            ("listeners", self.queues.as_deref().map(outcome)),
            ("ports", self.ports.as_deref().map(outcome)),
        ]
        .into_iter()
        .filter_map(|(name, look)| Some((vec![("of", name.to_owned())], look?)))
        .collect();
        to.gauge(
            "tracer_look_success",
            "Whether the last look at listeners or ports saw anything.",
            looks
                .iter()
                .map(|(labels, (is_found, ..))| (labels.clone(), u32::from(*is_found))),
        );
        to.seconds(
            "tracer_look_time",
            "When that was, since the Unix epoch.",
            looks
                .iter()
                .map(|(labels, (_, time, _))| (labels.clone(), unix(*time))),
        );
        to.seconds(
            "tracer_look_duration",
            "How long it took.",
            looks
                .iter()
                .map(|(labels, (.., took))| (labels.clone(), took.as_secs_f64())),
        );
    }
}

/// Whether something was seen, when, and how long that took.
fn outcome<T>(sight: &Sight<T>) -> (bool, Timestamp, Duration) {
    (sight.found.is_some(), sight.time, sight.took)
}

/// Seconds since the Unix epoch, to the millisecond.
fn unix(time: Timestamp) -> f64 {
    Duration::try_from(time.duration_since(Timestamp::UNIX_EPOCH))
        .map(|since| (since.as_secs_f64() * 1_000.0).round() / 1_000.0)
        .unwrap_or_default()
}

/// The queues at one address of one namespace: listeners may share it
/// (`SO_REUSEPORT`).
#[derive(Debug, Default)]
struct Address {
    len: u64,
    max: Option<u64>,
    /// Who has the fullest of them open.
    process: String,
}

/// `told`: fullest first.
fn by_address(told: &[Listener]) -> BTreeMap<(u32, String), Address> {
    let mut addresses: BTreeMap<_, Address> = BTreeMap::new();
    for one in told {
        let key = (one.place.netns, one.local.to_string());
        let address = addresses.entry(key).or_insert_with(|| Address {
            process: one
                .holders
                .first()
                .map_or_else(String::new, |holder| label(&holder.comm)),
            ..Address::default()
        });
        address.len += u64::from(one.len);
        if let Some(max) = one.max {
            *address.max.get_or_insert_default() += u64::from(max);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::{
        metrics::{tally::Tally, text::open_metrics},
        model::{Failure, Netns, Process, Role},
        record::{Record, Totals},
        snapshot::places::Place,
        source::counters::Counts,
    };

    fn listener(port: u16, comm: &str, len: u32) -> Listener {
        Listener {
            place: Place {
                netns: 7,
                name: None,
            },
            local: ([0, 0, 0, 0], port).into(),
            is_ipv6: false,
            inode: 1,
            uid: 0,
            len,
            max: Some(10),
            drops: None,
            towards: Default::default(),
            holders: vec![Process {
                comm: comm.into(),
                ..Process::default()
            }],
        }
    }

    fn known() -> Known {
        let mut tally = Tally::default();
        let process = Process {
            comm: b"a\"}\n\x1b\\".to_vec(),
            ..Process::default()
        };
        tally.add(Record::Failure(&Failure {
            process: Some((process, Role::Caller)),
            ..Failure::example()
        }));
        let failed = |netns| {
            (
                Netns::of_inode(netns),
                Kind::ConnectFailed,
                Cause::PortsExhausted,
            )
        };
        let totals = Totals {
            counts: Counts::from([(failed(1), 2), (failed(7), 3)]),
            netns_names: BTreeMap::from([(Netns::of_inode(7), "blue".into())]),
            ..Totals::example()
        };
        let told = vec![
            listener(80, "nginx", 9),
            listener(80, "nginx", 1),
            listener(81, "x", 0),
        ];
        Known {
            counted: Counted { totals, tally },
            hooks: Vec::new(),
            queues: Some(Arc::new(Sight {
                found: Some(Queues { told, more: 5 }),
                time: Timestamp::UNIX_EPOCH,
                took: Duration::from_millis(20),
            })),
            ports: None,
        }
    }

    fn text() -> Result<String, fmt::Error> {
        open_metrics(known().families())
    }

    #[test]
    fn what_is_known_is_told() -> fmt::Result {
        let text = text()?;
        for line in [
            r#"tracer_failures_total{kind="connect_failed",cause="ports_exhausted"} 5"#,
            r#"tracer_failures_total{kind="ack_dropped",cause="accept_queue_full"} 0"#,
            r#"tracer_failures_described_total{kind="connect_failed",cause="ports_exhausted",process="a\"}\\x0a\\x1b\\\\",container="",pod_uid="",unit=""} 1"#,
            // Two that share an address.
            r#"tracer_listener_accept_queue_length{netns="7",netns_name="blue",local="0.0.0.0:80",process="nginx"} 10"#,
            r#"tracer_listener_accept_queue_limit{netns="7",netns_name="blue",local="0.0.0.0:80",process="nginx"} 20"#,
            "tracer_listeners 8",
            "tracer_listeners_left_out 5",
            r#"tracer_look_duration_seconds{of="listeners"} 0.02"#,
            "# UNIT tracer_start_time_seconds seconds",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        Ok(())
    }

    #[test]
    fn every_series_and_family_is_told_once() -> fmt::Result {
        let text = text()?;
        let mut seen = std::collections::HashSet::new();
        for line in text.lines() {
            let what = match line.strip_prefix('#') {
                Some(comment) => {
                    comment.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ") + line
                }
                None => line
                    .rsplit_once(' ')
                    .map_or(line, |(series, _)| series)
                    .to_owned(),
            };
            assert!(seen.insert(what), "twice: {line}");
        }
        Ok(())
    }
}

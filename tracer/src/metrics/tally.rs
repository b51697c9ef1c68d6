//! How often was what shown, and of whom? Bounded: whatever happens on the host,
//! so many series and no more. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use tracer_common::{Cause, Kind};

use crate::{
    model::Failure,
    output::sanitize::printable,
    record::{Record, Verified},
};

/// Combinations of kind, cause and process that are told apart.
const SERIES: usize = 512;

/// Listeners whose drops are told apart.
const LISTENERS: usize = 256;

/// Bytes of a label's value.
const LABEL: usize = 128;

/// Whom everything is told of that came when there was no room left.
pub(super) const OTHER: &str = "other";

/// Whose failures. Fit to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) process: String,
    pub(super) container: String,
    pub(super) pod_uid: String,
    pub(super) unit: String,
}

/// Drops of one listener, by namespace and address.
type Dropped = BTreeMap<(u32, Cow<'static, str>), u64>;

/// What was shown, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) described: BTreeMap<(Kind, Cause, Program), u64>,
    /// How many of those are told of [`OTHER`].
    pub(super) folded: u64,
    pub(super) dropped: Dropped,
    /// Failures that were counted but not described.
    pub(super) lost: u64,
    /// Whether hooks see what they should; `None`: not known yet.
    pub(super) verified: Option<Verified>,
}

impl Tally {
    /// Adds what a record tells.
    pub(super) fn add(&mut self, record: Record<'_>) {
        match record {
            Record::Failure(failure) => self.failure(failure),
            Record::Lost(_, count) => self.lost += count,
            Record::Verified(verified) => self.verified = Some(verified.clone()),
            _ => {}
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let mut key = (failure.kind, failure.cause, program(failure));
        if self.described.len() >= SERIES && !self.described.contains_key(&key) {
            self.folded += failure.count;
            key.2 = Program {
                process: OTHER.to_owned(),
                ..Program::default()
            };
        }
        *self.described.entry(key).or_default() += failure.count;
        if !failure.kind.is_drop() {
            return;
        }
        let local = failure.local.map(|local| local.to_string());
        let mut key = (failure.netns, Cow::Owned(local.unwrap_or_default()));
        if self.dropped.len() >= LISTENERS && !self.dropped.contains_key(&key) {
            key = (0, Cow::Borrowed(OTHER));
        }
        *self.dropped.entry(key).or_default() += failure.count;
    }
}

fn program(failure: &Failure) -> Program {
    let Some((process, _)) = &failure.process else {
        return Program::default();
    };
    let place = process.place.as_deref();
    let container = place.and_then(|place| place.container.as_ref());
    let pod = place.and_then(|place| place.pod.as_ref());
    let unit = place.and_then(|place| place.unit.as_ref());
    let text = |text: Option<&str>| text.map(|text| label(text.as_bytes())).unwrap_or_default();
    Program {
        process: label(&process.comm),
        container: text(container.map(|container| container.label())),
        pod_uid: text(pod.map(|pod| &*pod.uid)),
        unit: text(unit.map(|unit| &**unit)),
    }
}

/// A label's value: nothing a terminal acts on, and not too long.
pub(super) fn label(bytes: &[u8]) -> String {
    let mut shown = printable(bytes.get(..LABEL).unwrap_or(bytes));
    shown.truncate(shown.floor_char_boundary(LABEL));
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{Container, Place, Process, Role};

    fn failure(comm: &str) -> Failure {
        let process = Process {
            comm: comm.into(),
            ..Process::default()
        };
        Failure {
            process: Some((process, Role::Caller)),
            ..Failure::example()
        }
    }

    fn drop(port: u16) -> Failure {
        Failure {
            kind: Kind::SynDropped,
            cause: Cause::AcceptQueueFull,
            local: Some(([127, 0, 0, 1], port).into()),
            ..failure("server")
        }
    }

    #[test]
    fn everything_is_counted_once() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add(Record::Failure(&failure("curl")));
        }
        tally.add(Record::Failure(&failure("wget")));
        tally.add(Record::Failure(&drop(80)));
        tally.add(Record::Lost(Timestamp::UNIX_EPOCH, 7));
        let told: Vec<_> = tally
            .described
            .iter()
            .map(|((kind, _, program), count)| (*kind, &*program.process, *count))
            .collect();
        assert_eq!(
            told,
            [
                (Kind::ConnectFailed, "curl", 3),
                (Kind::ConnectFailed, "wget", 1),
                (Kind::SynDropped, "server", 1),
            ]
        );
        let dropped = BTreeMap::from([((1, Cow::Borrowed("127.0.0.1:80")), 1)]);
        assert_eq!(tally.dropped, dropped);
        assert_eq!((tally.folded, tally.lost), (0, 7));
    }

    #[test]
    fn however_many_there_are() {
        let mut tally = Tally::default();
        for round in 0..2 {
            for number in 0..2_000_u16 {
                tally.add(Record::Failure(&failure(&format!("p{number}"))));
                tally.add(Record::Failure(&drop(number)));
            }
            assert!(tally.described.len() <= SERIES + 2, "{round}");
            assert!(tally.dropped.len() <= LISTENERS + 1, "{round}");
        }
        assert_eq!(tally.described.values().sum::<u64>(), 8_000);
        assert_eq!(tally.dropped.values().sum::<u64>(), 4_000);
        // One place went to the server; those who came first keep theirs.
        assert_eq!(tally.folded, 2 * (2_000 - (SERIES as u64 - 1)));
    }

    #[test]
    fn where_a_process_belongs_is_told() {
        let mut failure = failure("java");
        if let Some((process, _)) = &mut failure.process {
            let container = Container {
                id: "0123456789abcdef".into(),
                runtime: None,
                name: None,
            };
            process.place = Some(Arc::new(Place {
                container: Some(container),
                unit: Some("web\n.service".into()),
                ..Place::default()
            }));
        }
        let expected = Program {
            process: "java".into(),
            container: "0123456789ab".into(),
            pod_uid: String::new(),
            unit: "web\\x0a.service".into(),
        };
        assert_eq!(program(&failure), expected);
    }

    #[test]
    fn labels_are_harmless_and_short() {
        assert_eq!(label(b"\x1b]52;c;x\x07"), "\\x1b]52;c;x\\x07");
        assert_eq!(label("ß".repeat(100).as_bytes()).len(), LABEL);
        for hostile in [
            vec![0; 4096],
            vec![0xff; 4096],
            "\u{202e}".repeat(99).into(),
        ] {
            let label = label(&hostile);
            assert!(label.len() <= LABEL && !label.chars().any(char::is_control));
        }
    }
}

//! Compares what was caused with what the hooks saw. Pure.

use std::collections::BTreeMap;

use crate::{host::plan::Purpose, probe::Served, record::Status};

/// What was caused and what was seen, by purpose and by whether it was IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    caused: BTreeMap<(Purpose, bool), u64>,
    seen: BTreeMap<(Purpose, bool), u64>,
    /// What could not be caused, and why. Some of it may have been, and seen.
    unfit: BTreeMap<(Purpose, bool), String>,
    /// Descriptions that came.
    pub(super) described: u64,
    /// Descriptions for which the ring buffer had no room.
    pub(super) missed: u64,
}

impl Tally {
    pub(super) fn caused(&mut self, purpose: Purpose, v6: bool, times: u64) {
        *self.caused.entry((purpose, v6)).or_default() += times;
    }

    pub(super) fn seen(&mut self, purpose: Purpose, v6: bool) {
        *self.seen.entry((purpose, v6)).or_default() += 1;
    }

    pub(super) fn forget_seen(&mut self, purpose: Purpose) {
        self.seen.retain(|(other, _), _| *other != purpose);
    }

    pub(super) fn unfit(&mut self, purpose: Purpose, v6: bool, why: String) {
        self.unfit.insert((purpose, v6), why);
    }

    /// Why a purpose could not be caused, or not by both families.
    fn why_unfit(&self, purpose: Purpose) -> Option<String> {
        let why = [(false, "IPv4"), (true, "IPv6")].map(|(v6, family)| {
            let why = self.unfit.get(&(purpose, v6))?;
            Some(format!("{family}: {why}"))
        });
        let why: Vec<_> = why.into_iter().flatten().collect();
        (!why.is_empty()).then(|| why.join("; "))
    }

    /// Caused and seen.
    fn of(&self, purpose: Purpose, v6: bool) -> (u64, u64) {
        if self.unfit.contains_key(&(purpose, v6)) {
            return (0, 0);
        }
        let get = |counts: &BTreeMap<_, u64>| counts.get(&(purpose, v6)).copied().unwrap_or(0);
        let (caused, seen) = (get(&self.caused), get(&self.seen));
        match purpose {
            // They are read from descriptions of dropped SYNs, as far as there are any.
            Purpose::Listener | Purpose::Acceptor | Purpose::AcceptFailure => {
                let drops = self.seen.get(&(Purpose::SynDrop, v6)).copied();
                (caused.min(drops.unwrap_or(0)), seen)
            }
            _ => (caused, seen),
        }
    }
}

/// What became of a purpose in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) purpose: Purpose,
    pub(super) status: Status,
    pub(super) caused: u64,
    pub(super) seen: u64,
    pub(super) reason: Option<String>,
}

/// Judges the purposes that were played.
pub(super) fn judge(played: &[Served], tally: &Tally) -> Vec<Finding> {
    played.iter().map(|one| finding(one, tally)).collect()
}

fn finding(served: &Served, tally: &Tally) -> Finding {
    let purpose = served.purpose;
    let both = [false, true].map(|v6| tally.of(purpose, v6));
    let [(caused4, seen4), (caused6, seen6)] = both;
    let (caused, seen) = (caused4 + caused6, seen4 + seen6);
    let unfit = tally.why_unfit(purpose);
    let is_right = both.iter().all(|(caused, seen)| caused == seen);
    let (status, reason) = match (is_right, caused) {
        (true, 0) => (
            Status::NotVerified,
            Some(unfit.unwrap_or_else(|| uncaused(purpose).to_owned())),
        ),
        (true, _) => (Status::Verified, unfit.map(|why| format!("in part: {why}"))),
        (false, _) if tally.missed > 0 => (
            Status::NotVerified,
            Some("the ring buffer was full while it was verified".to_owned()),
        ),
        (false, _) => {
            let family = |name, (caused, seen)| {
                (caused != seen).then(|| format!("{name}: {seen} of {caused} seen"))
            };
            let parts = [family("IPv4", both[0]), family("IPv6", both[1])];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            (Status::Failed, Some(parts.join(", ")))
        }
    };
    Finding {
        purpose,
        status,
        caused,
        seen,
        reason,
    }
}

/// Why nothing was caused.
fn uncaused(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::ConnectPolicy => "it cannot be caused without a BPF program in the host's cgroups",
        Purpose::Listener | Purpose::Acceptor | Purpose::AcceptFailure => {
            "no dropped SYN was described that could have named the process"
        }
        _ => "it could not be caused here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(purpose: Purpose, fill: impl FnOnce(&mut Tally)) -> (Status, u64, u64, String) {
        let mut tally = Tally::default();
        fill(&mut tally);
        let served = Served {
            purpose,
            by: None,
            reason: None,
        };
        let found = finding(&served, &tally);
        let reason = found.reason.unwrap_or_default();
        (found.status, found.caused, found.seen, reason)
    }

    #[test]
    fn each_family_must_be_seen() {
        let both = |tally: &mut Tally| {
            for v6 in [false, true] {
                tally.caused(Purpose::Bind, v6, 1);
            }
        };
        let (status, ..) = judged(Purpose::Bind, |tally| {
            both(tally);
            tally.seen(Purpose::Bind, false);
            tally.seen(Purpose::Bind, true);
        });
        assert_eq!(status, Status::Verified);
        // As many as were caused, but of the wrong family.
        let (status, caused, seen, reason) = judged(Purpose::Bind, |tally| {
            both(tally);
            tally.seen(Purpose::Bind, false);
            tally.seen(Purpose::Bind, false);
        });
        assert_eq!((status, caused, seen), (Status::Failed, 2, 2));
        assert_eq!(reason, "IPv4: 2 of 1 seen, IPv6: 0 of 1 seen");
    }

    #[test]
    fn a_full_ring_proves_nothing() {
        let (status, ..) = judged(Purpose::Connect, |tally| {
            tally.caused(Purpose::Connect, false, 1);
            tally.missed = 1;
        });
        assert_eq!(status, Status::NotVerified);
    }

    #[test]
    fn what_was_not_caused_is_not_verified() {
        let (status, _, _, reason) = judged(Purpose::ConnectPolicy, |_| {});
        assert_eq!(status, Status::NotVerified);
        assert!(!reason.is_empty());
        let (status, ..) = judged(Purpose::ConnectPolicy, |tally| {
            tally.seen(Purpose::ConnectPolicy, false);
        });
        assert_eq!(status, Status::Failed);
    }

    #[test]
    fn a_scene_that_ends_early_proves_nothing() {
        let (status, caused, seen, reason) = judged(Purpose::Bind, |tally| {
            tally.caused(Purpose::Bind, false, 2);
            for v6 in [false, false, true] {
                tally.seen(Purpose::Bind, v6);
            }
            tally.unfit(Purpose::Bind, true, "no address".to_owned());
        });
        assert_eq!((status, caused, seen), (Status::Verified, 2, 2));
        assert_eq!(reason, "in part: IPv6: no address");
    }

    #[test]
    fn names_are_read_from_drops() {
        let caused = |tally: &mut Tally| {
            tally.caused(Purpose::SynDrop, false, 1);
            tally.caused(Purpose::Acceptor, false, 1);
        };
        let (status, ..) = judged(Purpose::Acceptor, caused);
        assert_eq!(status, Status::NotVerified);
        let (status, ..) = judged(Purpose::Acceptor, |tally| {
            caused(tally);
            tally.seen(Purpose::SynDrop, false);
        });
        assert_eq!(status, Status::Failed);
    }
}

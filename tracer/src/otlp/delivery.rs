//! What became of the log records: counted, so that none is missing silently.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::metrics::family::Families;

/// Bytes of log records, as they are sent, that may wait.
pub(super) const ROOM: usize = 8 << 20;

/// Both sides count here: who traces and who sends.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// All there were.
    offered: AtomicU64,
    /// The receiver has said that it has them.
    taken: AtomicU64,
    /// There was no room to wait in.
    no_room: AtomicU64,
    /// The receiver does not want them.
    refused: AtomicU64,
    /// They were sent again for too long.
    expired: AtomicU64,
    /// Bytes that wait.
    waiting: AtomicUsize,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) offered: u64,
    pub(super) taken: u64,
    pub(super) no_room: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
}

impl Delivery {
    /// The number of one more record, from 1 on.
    pub(super) fn offer(&self) -> u64 {
        self.offered.fetch_add(1, Relaxed) + 1
    }

    /// Whether there is room for one more; `false` is counted. Asked before the record
    /// is made: in a flood that is cheap.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.waiting.load(Relaxed) < ROOM;
        if !has_room {
            self.no_room.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Only who traces does that, so the last one may be too much, but no more.
    pub(super) fn take_room(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Relaxed);
    }

    pub(super) fn give_room(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn taken(&self, records: u64) {
        self.taken.fetch_add(records, Relaxed);
    }

    pub(super) fn refused(&self, records: u64) {
        self.refused.fetch_add(records, Relaxed);
    }

    pub(super) fn expired(&self, records: u64) {
        self.expired.fetch_add(records, Relaxed);
    }

    pub(super) fn account(&self) -> Account {
        // In this order none looks given up that was not offered.
        let [taken, no_room, refused, expired] =
            [&self.taken, &self.no_room, &self.refused, &self.expired].map(|n| n.load(Relaxed));
        Account {
            offered: self.offered.load(Relaxed),
            taken,
            no_room,
            refused,
            expired,
        }
    }

    /// As metrics about tracer itself.
    pub(super) fn measure(&self, families: &mut Families) {
        let account = self.account();
        families.total(
            "tracer_otlp_logs",
            "Log records that there were for the OTLP receiver.",
            account.offered,
        );
        let outcomes = [
            ("taken", account.taken),
            ("no_room", account.no_room),
            ("refused", account.refused),
            ("expired", account.expired),
        ];
        families.counter(
            "tracer_otlp_logs_outcome",
            "What became of them; the rest waits.",
            outcomes.map(|(name, count)| (vec![("outcome", name.to_owned())], count)),
        );
    }
}

impl Account {
    /// How many the receiver has not confirmed.
    pub(super) fn missing(&self) -> u64 {
        self.offered.saturating_sub(self.taken)
    }

    /// What is said at the end if there are any.
    pub(super) fn missing_in_words(&self) -> String {
        let known = self.no_room + self.refused + self.expired;
        let reasons = [
            (self.no_room, "found no room while others waited"),
            (self.refused, "were refused"),
            (self.expired, "waited too long"),
            (
                self.missing().saturating_sub(known),
                "were not confirmed before the end",
            ),
        ];
        let reasons = reasons.iter().filter(|(count, _)| *count > 0);
        let reasons: Vec<_> = reasons
            .map(|(count, why)| format!("{count} {why}"))
            .collect();
        format!(
            "{} of {} log records did not arrive, as far as is known: {}",
            self.missing(),
            self.offered,
            reasons.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_silently() {
        let delivery = Delivery::default();
        for number in 1..=10 {
            assert_eq!(delivery.offer(), number);
        }
        assert!(delivery.has_room());
        delivery.take_room(ROOM);
        assert!(!delivery.has_room());
        delivery.give_room(1);
        assert!(delivery.has_room());
        delivery.taken(3);
        delivery.refused(2);
        delivery.expired(1);
        let account = delivery.account();
        assert_eq!(account.missing(), 7);
        assert_eq!(
            account.missing_in_words(),
            "7 of 10 log records did not arrive, as far as is known: 1 found no room while others \
             waited, 2 were refused, 1 waited too long, 3 were not confirmed before the end"
        );
    }
}

//! How many failures when, in memory that has a bound?
//!
//! Buckets start at a tenth of a second and grow as the capture does; each
//! width is a multiple of the one before, so that nothing is split.

use std::collections::BTreeMap;

/// Widths of a bucket, milliseconds.
const WIDTHS: [i64; 16] = [
    100,
    500,
    1_000,
    5_000,
    15_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    10_800_000,
    43_200_000,
    86_400_000,
    604_800_000,
    2_419_200_000,
    // Two years and a bit; what is beyond comes from a broken clock.
    67_737_600_000,
    677_376_000_000,
];

/// Buckets that are kept.
const BUCKETS: usize = 4096;

/// What happened within a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Failures of `connect()`, `bind()`, `listen()`.
    pub(super) calls: u64,
    /// Segments that listeners dropped.
    pub(super) drops: u64,
    /// Failures that were counted and not described.
    pub(super) lost: u64,
}

impl Bucket {
    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.drops = self.drops.saturating_add(other.drops);
        self.lost = self.lost.saturating_add(other.lost);
    }
}

/// Failures over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// Index into [`WIDTHS`].
    level: usize,
    buckets: BTreeMap<i64, Bucket>,
}

impl Timeline {
    pub(super) fn add(&mut self, at_ms: i64, what: Bucket) {
        let at = at_ms.div_euclid(self.width());
        self.buckets.entry(at).or_default().add(what);
        while self.buckets.len() > BUCKETS && self.level + 1 < WIDTHS.len() {
            self.buckets = self.merged(WIDTHS[self.level + 1]);
            self.level += 1;
        }
    }

    /// The columns of a chart over `from..=until`, at most `most` of them:
    /// their width in milliseconds, the start of the first, and all of them.
    pub(super) fn columns(&self, from: i64, until: i64, most: usize) -> Columns {
        let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
        let count = |width: i64| {
            until
                .div_euclid(width)
                .saturating_sub(from.div_euclid(width))
        };
        let width = WIDTHS
            .iter()
            .skip(self.level)
            .copied()
            .find(|width| count(*width) < most)
            .unwrap_or(WIDTHS[WIDTHS.len() - 1]);
        let first = from.div_euclid(width);
        let merged = self.merged(width);
        let columns = (0..=count(width).clamp(0, most - 1))
            .map(|index| {
                let bucket = merged.get(&first.saturating_add(index));
                bucket.copied().unwrap_or_default()
            })
            .collect();
        Columns {
            width_ms: width,
            start_ms: first.saturating_mul(width),
            columns,
        }
    }

    fn width(&self) -> i64 {
        WIDTHS[self.level]
    }

    /// The same in wider buckets.
    fn merged(&self, width: i64) -> BTreeMap<i64, Bucket> {
        let mut merged: BTreeMap<i64, Bucket> = BTreeMap::new();
        for (index, bucket) in &self.buckets {
            let at = index.saturating_mul(self.width()).div_euclid(width);
            merged.entry(at).or_default().add(*bucket);
        }
        merged
    }
}

/// A chart's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) width_ms: i64,
    pub(super) start_ms: i64,
    pub(super) columns: Vec<Bucket>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Bucket {
        Bucket {
            calls: 1,
            ..Bucket::default()
        }
    }

    fn sum(columns: &Columns) -> u64 {
        columns.columns.iter().map(|bucket| bucket.calls).sum()
    }

    #[test]
    fn a_short_capture_has_fine_columns() {
        let mut timeline = Timeline::default();
        for at in [0, 90, 250, 1_990] {
            timeline.add(at, call());
        }
        let columns = timeline.columns(0, 2_000, 60);
        assert_eq!(columns.width_ms, 100);
        assert_eq!(columns.columns.len(), 21);
        assert_eq!(columns.columns[0].calls, 2);
        assert_eq!(columns.columns[2].calls, 1);
        assert_eq!(sum(&columns), 4);
    }

    #[test]
    fn three_weeks_fit_and_nothing_is_left_out() {
        let mut timeline = Timeline::default();
        let end = 21 * 86_400_000;
        for at in (0..end).step_by(60_000) {
            timeline.add(at, call());
        }
        assert!(timeline.buckets.len() <= BUCKETS);
        let columns = timeline.columns(0, end - 1, 60);
        assert!(columns.columns.len() <= 60);
        assert_eq!(sum(&columns), 21 * 24 * 60);
    }

    #[test]
    fn any_time_is_good_enough() {
        let mut timeline = Timeline::default();
        for at in 0..100_000_i64 {
            timeline.add(
                at.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()),
                call(),
            );
        }
        timeline.add(i64::MIN, call());
        timeline.add(i64::MAX, call());
        let columns = timeline.columns(i64::MIN, i64::MAX, 60);
        assert!(columns.columns.len() <= 60);
        assert_eq!(timeline.columns(5, 4, 60).columns.len(), 1);
    }
}

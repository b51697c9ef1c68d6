//! How many failures when, in memory that has a bound?
//!
//! Buckets start at a tenth of a second and grow as the capture does; each
//! width is a multiple of the one before, so that nothing is split.
//!
//! A line of `MOST` buckets is never coarser than a chart of at most `MOST`
//! columns over all of its times: where the chart's columns are that wide, the
//! line has no more buckets than the chart has columns, and need not grow.

/// Widths of a bucket, milliseconds.
const WIDTHS: [i64; 18] = [
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
    6_773_760_000_000,
    677_376_000_000_000,
];

/// Most columns of any chart.
pub(super) const COLUMNS: usize = 200;

/// Everything that happened.
pub(super) type Timeline = Line<Bucket, 4096>;

/// Failures of one finding, program or listener: 4 KiB of memory at most, and
/// fine enough for any chart.
pub(super) type Course = Line<u64, 256>;

const _: () = assert!(COLUMNS <= 256, "a chart must not be finer than a course");

/// What is counted in a bucket.
pub(super) trait Amount: Copy + Default {
    fn add(&mut self, more: Self);
}

impl Amount for u64 {
    fn add(&mut self, more: Self) {
        *self = self.saturating_add(more);
    }
}

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

impl Amount for Bucket {
    fn add(&mut self, more: Self) {
        self.calls.add(more.calls);
        self.drops.add(more.drops);
        self.lost.add(more.lost);
    }
}

/// Amounts over time, in at most `MOST` buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Line<T, const MOST: usize> {
    /// Index into [`WIDTHS`].
    level: usize,
    /// Those that are not empty, in order: start in widths, and what is in it.
    buckets: Vec<(i64, T)>,
}

impl<T: Amount, const MOST: usize> Line<T, MOST> {
    pub(super) fn add(&mut self, at_ms: i64, what: T) {
        // Records come nearly in order: this is the way of most of them.
        let width = self.width();
        if let Some((index, last)) = self.buckets.last_mut() {
            let since = index.checked_mul(width);
            let since = since.and_then(|start| at_ms.checked_sub(start));
            if since.is_some_and(|since| (0..width).contains(&since)) {
                return last.add(what);
            }
        }
        self.put(at_ms, what);
    }

    fn put(&mut self, at_ms: i64, what: T) {
        loop {
            let at = at_ms.div_euclid(self.width());
            match self.buckets.binary_search_by_key(&at, |(index, _)| *index) {
                Ok(found) => return self.buckets[found].1.add(what),
                Err(_) if self.buckets.len() >= MOST && self.level + 1 < WIDTHS.len() => {
                    self.widen();
                }
                Err(place) => return self.buckets.insert(place, (at, what)),
            }
        }
    }

    fn widen(&mut self) {
        let width = self.width();
        self.level += 1;
        let wider = self.width();
        for (index, _) in &mut self.buckets {
            *index = index.saturating_mul(width).div_euclid(wider);
        }
        self.buckets.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                earlier.1.add(later.1);
            }
            is_same
        });
    }

    /// The axis of a chart over `from..=until`, of at most `most` columns.
    pub(super) fn axis(&self, from: i64, until: i64, most: usize) -> Axis {
        let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
        let steps = |width: i64| {
            until
                .div_euclid(width)
                .saturating_sub(from.div_euclid(width))
        };
        let width = WIDTHS
            .iter()
            .skip(self.level)
            .copied()
            .find(|width| steps(*width) < most)
            .unwrap_or(WIDTHS[WIDTHS.len() - 1]);
        let steps = steps(width).clamp(0, most - 1);
        Axis {
            width_ms: width,
            start_ms: from.div_euclid(width).saturating_mul(width),
            columns: usize::try_from(steps).map_or(1, |steps| steps.saturating_add(1)),
        }
    }

    /// What is in each of its columns.
    pub(super) fn on(&self, axis: &Axis) -> Vec<T> {
        let mut columns = vec![T::default(); axis.columns];
        for (index, what) in &self.buckets {
            let start = index.saturating_mul(self.width());
            let column = start
                .saturating_sub(axis.start_ms)
                .div_euclid(axis.width_ms);
            let column = usize::try_from(column).ok();
            if let Some(column) = column.and_then(|column| columns.get_mut(column)) {
                column.add(*what);
            }
        }
        columns
    }

    fn width(&self) -> i64 {
        WIDTHS[self.level]
    }
}

/// A chart's columns: they are equally wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) width_ms: i64,
    /// Of the first.
    pub(super) start_ms: i64,
    /// How many; never none.
    pub(super) columns: usize,
}

impl Axis {
    /// When a column begins.
    pub(super) fn start_of(&self, column: usize) -> i64 {
        let column = i64::try_from(column).unwrap_or(i64::MAX);
        self.start_ms
            .saturating_add(self.width_ms.saturating_mul(column))
    }

    /// When the last one ends.
    pub(super) fn end_ms(&self) -> i64 {
        self.start_of(self.columns)
    }
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

    fn sum(columns: &[Bucket]) -> u64 {
        columns.iter().map(|bucket| bucket.calls).sum()
    }

    #[test]
    fn a_short_capture_has_fine_columns() {
        let mut timeline = Timeline::default();
        for at in [0, 1_990, 250, 90] {
            timeline.add(at, call());
        }
        let axis = timeline.axis(0, 2_000, 60);
        assert_eq!((axis.width_ms, axis.columns), (100, 21));
        let columns = timeline.on(&axis);
        assert_eq!(columns.len(), 21);
        assert_eq!(columns[0].calls, 2);
        assert_eq!(columns[2].calls, 1);
        assert_eq!(sum(&columns), 4);
    }

    #[test]
    fn three_weeks_fit_and_nothing_is_left_out() {
        let mut timeline = Timeline::default();
        let end = 21 * 86_400_000;
        for at in (0..end).step_by(60_000) {
            timeline.add(at, call());
        }
        assert!(timeline.buckets.len() <= 4096);
        let axis = timeline.axis(0, end - 1, 60);
        assert!(axis.columns <= 60);
        assert_eq!(sum(&timeline.on(&axis)), 21 * 24 * 60);
    }

    /// A number that looks random.
    fn scattered(number: i64) -> i64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed())
    }

    #[test]
    fn any_time_is_good_enough() {
        let mut timeline = Timeline::default();
        let (first, last) = (
            jiff::Timestamp::MIN.as_millisecond(),
            jiff::Timestamp::MAX.as_millisecond(),
        );
        for at in 0..100_000 {
            timeline.add(first + scattered(at).rem_euclid(last - first), call());
        }
        assert!(timeline.buckets.len() <= 4096);
        timeline.add(i64::MIN, call());
        timeline.add(i64::MAX, call());
        let axis = timeline.axis(i64::MIN, i64::MAX, 60);
        assert!(timeline.on(&axis).len() <= 60);
        assert_eq!(timeline.axis(5, 4, 60).columns, 1);
    }

    #[test]
    fn a_course_is_as_fine_as_any_chart_and_equals_it() {
        for span in [1_000, 70_000, 9_999_999, 3_000_000_000, 200_000_000_000_000] {
            let mut timeline = Timeline::default();
            let mut course = Course::default();
            for number in 0..20_000 {
                let at = scattered(number).rem_euclid(span);
                timeline.add(at, call());
                course.add(at, 1);
                assert!(course.buckets.len() <= 256);
            }
            for most in [2, 60, COLUMNS] {
                let axis = timeline.axis(0, span, most);
                assert!(course.width() <= axis.width_ms, "{span} {most}");
                let calls = timeline.on(&axis).into_iter().map(|bucket| bucket.calls);
                assert_eq!(course.on(&axis), calls.collect::<Vec<_>>());
                assert_eq!(course.on(&axis).iter().sum::<u64>(), 20_000);
            }
        }
    }
}

//! How often something happened in each second of the last minute. Pure.

/// Seconds that are shown.
pub(super) const SPAN: usize = 60;

/// Seconds that are kept: those shown, and those of a cell that has begun to leave.
const KEPT: usize = 72;

/// A rate is the mean over this many seconds.
const RECENT: i64 = 5;

#[derive(Clone, Debug)]
pub(super) struct Pulse {
    seconds: [u32; KEPT],
    /// The second that was counted last; older ones stand before it, in a ring.
    newest: i64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            seconds: [0; KEPT],
            newest: i64::MIN,
        }
    }
}

impl Pulse {
    pub(super) fn count(&mut self, second: i64, times: u64) {
        if second > self.newest {
            let kept = i64::try_from(KEPT).unwrap_or(i64::MAX);
            let passed = second.saturating_sub(self.newest).min(kept);
            for ago in 0..passed {
                self.seconds[place(second.saturating_sub(ago))] = 0;
            }
            self.newest = second;
        }
        if self.has(second) {
            let count = &mut self.seconds[place(second)];
            *count = count.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        }
    }

    fn has(&self, second: i64) -> bool {
        let age = self.newest.saturating_sub(second);
        usize::try_from(age).is_ok_and(|age| age < KEPT)
    }

    fn at(&self, second: i64) -> u64 {
        match self.has(second) {
            true => self.seconds[place(second)].into(),
            false => 0,
        }
    }

    /// How often a second, lately: the second that is running counts, but does not
    /// make less of those before it.
    pub(super) fn rate(&self, now: i64) -> f64 {
        let until = |last: i64| -> u64 {
            (0..RECENT)
                .map(|ago| self.at(last.saturating_sub(ago)))
                .sum()
        };
        let sum = until(now).max(until(now.saturating_sub(1)));
        let [sum, seconds] =
            [sum, RECENT.unsigned_abs()].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        f64::from(sum) / f64::from(seconds)
    }

    /// The last minute in this many cells, which must divide it; cells begin at
    /// multiples of their width, so that bars stand still between them.
    pub(super) fn cells(&self, now: i64, cells: usize) -> Vec<u64> {
        let width = i64::try_from(SPAN / cells.max(1)).unwrap_or(1).max(1);
        let last = now.div_euclid(width);
        let count = i64::try_from(cells).unwrap_or(0);
        (0..count)
            .map(|index| last.saturating_sub(count - 1 - index))
            .map(|cell| {
                let first = cell.saturating_mul(width);
                (0..width)
                    .map(|offset| self.at(first.saturating_add(offset)))
                    .sum()
            })
            .collect()
    }
}

fn place(second: i64) -> usize {
    let kept = i64::try_from(KEPT).unwrap_or(1);
    usize::try_from(second.rem_euclid(kept)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_leaves() {
        let mut pulse = Pulse::default();
        for second in [100, 100, 103, 104] {
            pulse.count(second, 1);
        }
        assert!((pulse.rate(104) - 0.8).abs() < 1e-9);
        assert!((pulse.rate(108) - 0.4).abs() < 1e-9);
        assert!(pulse.rate(200) < 1e-9);
        assert_eq!(pulse.cells(104, 10).iter().sum::<u64>(), 4);
        assert_eq!(pulse.cells(104, 10)[9], 2);
        assert_eq!(pulse.cells(104, 10)[8], 2);
        assert_eq!(pulse.cells(170, 60).iter().sum::<u64>(), 0);
        pulse.count(1000, 1);
        assert_eq!(pulse.cells(1000, 60).iter().sum::<u64>(), 1);
        // Late: still within what is kept, or not.
        pulse.count(990, 1);
        pulse.count(3, 1);
        assert_eq!(pulse.cells(1000, 60).iter().sum::<u64>(), 2);
    }

    #[test]
    fn any_second_will_do() {
        let mut pulse = Pulse::default();
        for second in [i64::MIN, -5, 0, i64::MAX, i64::MIN] {
            pulse.count(second, 1);
            for now in [i64::MIN, 0, i64::MAX] {
                assert!(pulse.rate(now) >= 0.0);
                assert_eq!(pulse.cells(now, 20).len(), 20);
            }
        }
    }
}

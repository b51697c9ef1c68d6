//! The pauses between records, as they were or shorter.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How much faster than it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed(pub(crate) f64);

pub(super) struct Pace {
    speed: Speed,
    /// When the first record was shown, and when it was made.
    begin: Option<(Instant, Timestamp)>,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, begin: None }
    }

    /// How long to wait before showing a record of this time.
    pub(super) fn until(&mut self, at: Timestamp) -> Duration {
        let now = Instant::now();
        let (begun, first) = *self.begin.get_or_insert((now, at));
        let seconds = at.duration_since(first).as_secs_f64() / self.speed.0;
        // Negative: it comes late. Too large: longer than anybody waits.
        let due = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        due.saturating_sub(now.duration_since(begun))
    }

    /// The moment that is being shown, if anything is.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (begun, first) = self.begin?;
        let seconds = begun.elapsed().as_secs_f64() * self.speed.0;
        let passed = SignedDuration::try_from_secs_f64(seconds).ok()?;
        first.saturating_add(passed).ok()
    }

    /// Time stood still for so long.
    pub(super) fn stood(&mut self, pause: Duration) {
        if let Some((begun, _)) = &mut self.begin {
            *begun = begun.checked_add(pause).unwrap_or(*begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    #[test]
    fn pauses_are_divided() {
        let mut pace = Pace::new(Speed(10.0));
        let first = Timestamp::UNIX_EPOCH;
        assert_eq!(pace.until(first), Duration::ZERO);
        let pause = pace.until(first + 1.minute());
        assert!((5.0..=6.0).contains(&pause.as_secs_f64()), "{pause:?}");
        assert_eq!(pace.until(first - 1.minute()), Duration::ZERO);
        assert!(pace.until(Timestamp::MAX) > Duration::from_secs(1 << 30));
    }
}

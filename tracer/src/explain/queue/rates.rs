//! How fast do connections come to a listener, and how fast are they taken?

use std::{collections::VecDeque, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Rates are those over about this long before the last drop; over longer where
/// drops are rarer, but never over more than an episode.
const WINDOW: SignedDuration = SignedDuration::from_secs(5);

/// Samples are this far apart, so there are about ten in a window.
const STEP: SignedDuration = SignedDuration::from_millis(500);

/// A rate over less than this says nothing.
const SHORTEST: Duration = Duration::from_millis(200);

/// A listener at the moment of a drop.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) time: Timestamp,
    /// `accept()` calls that found a connection waiting, in this episode.
    pub(super) accepted: Option<u64>,
    /// Connections in the accept queue.
    pub(super) waiting: u32,
    /// Peers that were dropped for the first time, in this episode.
    pub(super) fresh: u64,
}

/// The last few seconds of an episode.
pub(super) struct Rates {
    samples: VecDeque<Sample>,
    latest: Option<Sample>,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self {
            samples: VecDeque::new(),
            latest: None,
        }
    }

    pub(super) fn note(&mut self, sample: Sample) {
        self.latest = Some(sample);
        let after = |earlier: &Sample| sample.time.duration_since(earlier.time);
        if self.samples.back().is_none_or(|last| after(last) >= STEP) {
            self.samples.push_back(sample);
        }
        // The first is what the window begins with; it goes when the second is
        // old enough for that.
        while self.samples.get(1).is_some_and(|it| after(it) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// The window's ends and its length in seconds.
    fn window(&self) -> Option<(Sample, Sample, f64)> {
        let (first, last) = (*self.samples.front()?, self.latest?);
        let length = Duration::try_from(last.time.duration_since(first.time)).ok()?;
        (length >= SHORTEST).then_some((first, last, length.as_secs_f64()))
    }

    /// See [`super::QueueFinding::accepts_per_s`].
    pub(super) fn accepts(&self) -> Option<f64> {
        let (first, last, seconds) = self.window()?;
        let accepted = last.accepted?.saturating_sub(first.accepted?);
        Some(number(accepted) / seconds)
    }

    /// See [`super::QueueFinding::arrivals_per_s`].
    pub(super) fn arrivals(&self) -> Option<f64> {
        let (first, last, seconds) = self.window()?;
        let accepted = last.accepted?.saturating_sub(first.accepted?);
        let fresh = last.fresh - first.fresh;
        let growth = f64::from(last.waiting) - f64::from(first.waiting);
        let came = number(accepted) + number(fresh) + growth;
        Some(came.max(0.0) / seconds)
    }
}

/// As a floating point number; counts within a window are far below 2^32.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

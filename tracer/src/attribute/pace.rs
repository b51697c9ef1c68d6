//! How often may /proc be read? Reading it costs time that grows with the host,
//! so it is paced by what it cost the last time.

use std::time::{Duration, Instant};

/// An answer younger than this is good enough.
const SHORTEST: Duration = Duration::from_secs(1);

/// Reading may take one part in this many of one processor.
const SHARE: u32 = 50;

/// Paces one kind of reading.
pub(crate) struct Pace {
    next: Instant,
}

impl Pace {
    /// Due at once.
    pub(crate) fn new() -> Self {
        Self {
            next: Instant::now(),
        }
    }

    /// Whether the last answer is old enough to be replaced.
    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Runs `read` and puts off the next time by what it took.
    pub(crate) fn measure<T>(&mut self, read: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = read();
        self.next = Instant::now() + SHORTEST.max(start.elapsed() * SHARE);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_reading_is_due_and_one_just_done_is_not() {
        let mut pace = Pace::new();
        assert!(pace.is_due());
        assert_eq!(pace.measure(|| 7), 7);
        assert!(!pace.is_due());
    }
}

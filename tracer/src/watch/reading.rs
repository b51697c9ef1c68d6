//! The kernel's counters and ours, read at one moment as far as that can be.
//!
//! Neither can be stopped. So ours are read before and after the kernel's: when
//! they stood still, both belong to one moment; when they did not, what came in
//! between is known and shown.

use anyhow::Result;

use crate::{
    attribute::namespaces::Namespaces,
    source::counters::{Counters, Counts, Tallies, drops},
};

/// How often a moment of rest is looked for.
const ATTEMPTS: usize = 5;

/// One reading.
pub(super) struct Reading {
    /// Of everything, as the kernel counts it, too.
    counts: Counts,
    pub(super) tallies: Tallies,
    /// Drops counted while the kernel's counters were being read.
    pub(super) meanwhile: u64,
}

impl Reading {
    /// Reads both; the kernel's numbers stay in `namespaces`.
    ///
    /// # Errors
    /// tracer's own counters cannot be read.
    pub(super) fn take(counters: &Counters, namespaces: &mut Namespaces) -> Result<Self> {
        let mut before = counters.tallies()?.counts_with_hidden();
        let mut attempts = 0;
        loop {
            namespaces.read_again();
            let tallies = counters.tallies()?;
            let counts = tallies.counts_with_hidden();
            let meanwhile = drops(&counts).saturating_sub(drops(&before));
            attempts += 1;
            if meanwhile == 0 || attempts == ATTEMPTS {
                return Ok(Self {
                    counts,
                    tallies,
                    meanwhile,
                });
            }
            before = counts;
        }
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Counts {
        let before = |key| earlier.counts.get(key).copied().unwrap_or(0);
        self.counts
            .iter()
            .map(|(key, count)| (*key, count.saturating_sub(before(key))))
            .collect()
    }
}

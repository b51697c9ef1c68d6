//! The kernel side's exact counters, summed over CPUs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::maps::{MapError, PerCpuArray, PerCpuHashMap};
use tracer_common::{Cause, CountKey, Kind, slot};
use zerocopy::FromBytes;

use crate::probe::{Owned, Probe};

/// What was counted: by namespace, kind and cause.
pub(crate) type Counts = BTreeMap<(u32, Kind, Cause), u64>;

/// How many of them are listen-queue drops.
pub(crate) fn drops(counts: &Counts) -> u64 {
    counts
        .iter()
        .filter(|((_, kind, _), _)| kind.is_drop())
        .map(|(_, count)| count)
        .sum()
}

/// Counters about tracer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Failures counted.
    pub(crate) counted: u64,
    /// Failures whose description was written to the ring, and is shown.
    pub(crate) described: u64,
    /// Failures left out, because they were not asked for.
    pub(crate) filtered: u64,
    /// Failures counted here only, because the table of namespaces was full.
    pub(crate) unplaced: u64,
    /// SYNs about which nothing could be said.
    pub(crate) unjudged: u64,
}

impl Health {
    /// Descriptions that did not fit into the ring.
    pub(crate) fn lost(&self) -> u64 {
        let known = self.described.saturating_add(self.filtered);
        self.counted.saturating_sub(known)
    }

    /// Both together.
    pub(crate) fn and(self, more: Self) -> Self {
        Self {
            counted: self.counted.saturating_add(more.counted),
            described: self.described.saturating_add(more.described),
            filtered: self.filtered.saturating_add(more.filtered),
            unplaced: self.unplaced.saturating_add(more.unplaced),
            unjudged: self.unjudged.saturating_add(more.unjudged),
        }
    }

    /// The same, if `hidden` of those that were described are left out here.
    pub(crate) fn without(self, hidden: u64) -> Self {
        Self {
            described: self.described.saturating_sub(hidden),
            filtered: self.filtered.saturating_add(hidden),
            ..self
        }
    }
}

/// Reads the counters.
pub(crate) struct Counters {
    // Plain arrays: the key type is ours, and aya's `Pod` cannot be
    // implemented for a type of another crate.
    counts: PerCpuHashMap<Owned, [u8; size_of::<CountKey>()], u64>,
    health: PerCpuArray<Owned, u64>,
}

impl Counters {
    /// # Errors
    /// The object lacks the maps.
    pub(crate) fn new(probe: &mut Probe) -> Result<Self> {
        Ok(Self {
            counts: probe.take_map("COUNTS")?,
            health: probe.take_map("HEALTH")?,
        })
    }

    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::new();
        for key in self.counts.keys() {
            let bytes = key.context("the counters cannot be listed")?;
            let values = match self.counts.get(&bytes, 0) {
                Ok(values) => values,
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(error).context("the counters cannot be read"),
            };
            let Ok(key) = CountKey::read_from_bytes(&bytes) else {
                continue;
            };
            if let (Some(kind), Some(cause)) = (Kind::from_u8(key.kind), Cause::from_u8(key.cause))
            {
                counts.insert((key.netns, kind, cause), values.iter().sum());
            }
        }
        Ok(counts)
    }

    /// # Errors
    /// The kernel refuses to read the map.
    pub(crate) fn health(&self) -> Result<Health> {
        let slot = |index| -> Result<u64> {
            let values = self
                .health
                .get(&index, 0)
                .context("tracer's counters cannot be read")?;
            Ok(values.iter().sum())
        };
        Ok(Health {
            counted: slot(slot::COUNTED)?,
            described: slot(slot::DESCRIBED)?,
            filtered: slot(slot::FILTERED)?,
            unplaced: slot(slot::UNPLACED)?,
            unjudged: slot(slot::UNJUDGED)?,
        })
    }
}

//! The exact counters: one increment per failure, before anything is described.

use crate::event::{Cause, Kind};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of the per-CPU counters `COUNTS`: value `u64`, one per CPU.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CountKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Cause`] as a number.
    pub cause: u8,
    /// Zero.
    pub pad: [u8; 2],
}

impl CountKey {
    /// The key that counts `kind` for `cause` in `netns`.
    #[must_use]
    pub const fn new(netns: u32, kind: Kind, cause: Cause) -> Self {
        Self {
            netns,
            kind: kind as u8,
            cause: cause as u8,
            pad: [0; 2],
        }
    }
}

/// Slots of the per-CPU array `HEALTH`.
pub mod slot {
    /// Failures counted, of every kind.
    pub const COUNTED: u32 = 0;
    /// Failures whose description reached the ring buffer.
    pub const DESCRIBED: u32 = 1;
    /// Failures counted in [`COUNTED`] but in no namespace, because `COUNTS`
    /// was full.
    pub const UNPLACED: u32 = 2;
    /// SYNs whose entry was seen on another CPU or not at all, so that no
    /// verdict was possible.
    pub const UNJUDGED: u32 = 3;
    /// Failures counted but not described, because [`crate::Filter`] leaves
    /// them out.
    pub const FILTERED: u32 = 4;
    /// How many slots there are.
    pub const LEN: u32 = 5;
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<CountKey>() == 8);
    assert!(align_of::<CountKey>() == 4);
    assert!(offset_of!(CountKey, kind) == 4);
};

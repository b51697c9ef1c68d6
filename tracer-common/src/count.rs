//! The exact counters: every failure is counted, by who, before anything is described.

use crate::event::{Cause, Kind};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What failed, and for whom: key of the counters `COUNTS`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CountKey {
    /// As [`crate::Event::netns_cookie`].
    pub netns_cookie: u64,
    /// Of a call: when the caller's process started, [`crate::Task::start_ns`]. Of a drop: the
    /// inode number of the listener's socket. 0: not known.
    pub party: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Of a call: process id of the caller; of a drop 0.
    pub tgid: u32,
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`Cause`] as a number.
    pub cause: u8,
    /// Zero.
    pub pad: [u8; 6],
}

impl CountKey {
    /// The key that counts `kind` for `cause` in a namespace, for nobody in particular.
    #[must_use]
    pub const fn new(netns: u32, netns_cookie: u64, kind: Kind, cause: Cause) -> Self {
        Self {
            netns_cookie,
            party: 0,
            netns,
            tgid: 0,
            kind: kind as u8,
            cause: cause as u8,
            pad: [0; 6],
        }
    }
}

/// In place of a [`Cause`]: SYNs that came when the request queue stood exactly at its
/// limit, with syncookies off, before it was known whether this kernel drops those
/// ([`crate::request_limit`]).
pub const UNDECIDED: u8 = u8::MAX;

/// Failures of one [`CountKey`] on one CPU: value of `COUNTS`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Tally {
    /// All of them.
    pub counted: u64,
    /// Those that were wanted and not described: too many at once, or no room in the ring.
    pub undescribed: u64,
    /// Those that [`crate::Filter`] leaves out.
    pub filtered: u64,
    /// The last window in which some were described: time divided by
    /// [`crate::DESCRIBE_WINDOW_NS`], the low 32 bits.
    pub window: u32,
    /// How many of them were described in that window.
    pub used: u32,
    /// Of calls: [`fold`] of the address that all of them were about (the remote one, or
    /// the one asked for); 0: none yet.
    pub address: u64,
    /// Not 0: they were about several.
    pub has_several: u64,
}

/// An address and port as one number, never 0.
#[must_use]
#[inline(always)]
pub fn fold(ip: &[u8; 16], port: u16) -> u64 {
    let word = |at: usize| {
        u64::from_ne_bytes([
            ip[at],
            ip[at + 1],
            ip[at + 2],
            ip[at + 3],
            ip[at + 4],
            ip[at + 5],
            ip[at + 6],
            ip[at + 7],
        ])
    };
    let sum = word(0) ^ word(8).rotate_left(29) ^ (port as u64).rotate_left(41);
    // An odd factor loses nothing.
    sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// How many [`CountKey`]s have counters of their own.
pub const COUNT_KEYS: u32 = 8192;

/// Slots of the per-CPU array `HEALTH`.
pub mod slot {
    /// Failures wanted and not described, of every kind: whether there is news.
    pub const UNDESCRIBED: u32 = 0;
    /// Keys that were put into `COUNTS`.
    pub const KEYS: u32 = 1;
    /// SYNs whose entry was seen on another CPU or not at all, so that no
    /// verdict was possible.
    pub const UNJUDGED: u32 = 2;
    /// How many slots there are.
    pub const LEN: u32 = 3;
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<CountKey>() == 32);
    assert!(align_of::<CountKey>() == 8);
    assert!(offset_of!(CountKey, netns) == 16);
    assert!(offset_of!(CountKey, kind) == 24);
    assert!(size_of::<Tally>() == 48);
    assert!(offset_of!(Tally, window) == 24);
    assert!(offset_of!(Tally, address) == 32);
};

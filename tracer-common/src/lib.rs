//! The contract between tracer's eBPF programs and its user space.
//!
//! Everything here crosses the kernel boundary as plain bytes: `repr(C)`,
//! fixed-width integers, explicit padding, and const assertions on size,
//! alignment and offsets, so that both sides are built from one truth.
//!
//! * [`event`]: one failure, as written to the ring buffer
//! * [`closer`]: who closed a connection
//! * [`count`]: the exact counters
//! * [`config`]: what user space learned about the kernel before loading, and what it
//!   wants described
//! * [`verification`]: where tracer causes failures to verify its hooks
#![no_std]

pub mod closer;
pub mod config;
pub mod count;
pub mod event;
pub mod verification;

pub use closer::{CHUNK, CHUNKS, Chunk, Closed, Connection, Cursor};
pub use config::{ABSENT, Config, FILTER_VALUES, Filter};
pub use count::{COUNT_KEYS, CountKey, Tally, UNDECIDED, fold, slot};
pub use event::{Cause, Event, Family, Hook, Kind, Task, flag};
pub use verification::Verification;

/// Size of the ring buffer; a power of two and a multiple of the page size.
pub const RING_BYTES: usize = 1 << 20;

/// A CPU wakes the reader of the ring at most once in this time, nanoseconds.
/// A reader that was woken must look again after more than this.
pub const WAKE_INTERVAL_NS: u64 = 10_000_000;

/// Descriptions are limited in windows of this length, nanoseconds. Every failure is
/// counted whatever the limits.
pub const DESCRIBE_WINDOW_NS: u64 = 100_000_000;

/// A process or listener whose failures of one kind and cause number at most this in a
/// window is quiet: its failures are described before those of louder ones.
pub const QUIET_PER_WINDOW: u32 = 64;

/// Once this many failures of a [`Kind`] were described in a window, those of loud
/// processes and listeners are counted only: 25,000 a second, which keep some
/// hundredths of a core busy.
pub const DESCRIBED_PER_WINDOW: u64 = 2_500;

/// Once this many were, those of quiet ones are counted only, too.
pub const DESCRIBED_PER_WINDOW_QUIET: u64 = 20_000;

/// What a kernel does with a SYN that finds the request queue exactly at its limit, with
/// syncookies off: inet_csk_reqsk_queue_is_full (include/net/inet_connection_sock.h)
/// compared with `>=` first and with `>` later, also within stable series.
pub mod request_limit {
    /// Not known yet.
    pub const UNKNOWN: u32 = 0;
    /// It accepts it (`>`).
    pub const ACCEPTS: u32 = 1;
    /// It drops it (`>=`).
    pub const DROPS: u32 = 2;
}

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
pub use count::{CountKey, slot};
pub use event::{Cause, Event, Family, Hook, Kind, Task, flag};
pub use verification::Verification;

/// Size of the ring buffer; a power of two and a multiple of the page size.
pub const RING_BYTES: usize = 1 << 20;

/// A CPU wakes the reader of the ring at most once in this time, nanoseconds.
/// A reader that was woken must look again after more than this.
pub const WAKE_INTERVAL_NS: u64 = 10_000_000;

/// At most [`DESCRIBED_PER_WINDOW`] failures of each [`Kind`] are described in this
/// time, nanoseconds; all are counted.
pub const DESCRIBE_WINDOW_NS: u64 = 100_000_000;

/// See [`DESCRIBE_WINDOW_NS`]. 50,000 a second are more than anybody reads, and keep
/// a tenth of a core busy.
pub const DESCRIBED_PER_WINDOW: u64 = 5_000;

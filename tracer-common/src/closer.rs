//! Who closed a connection: what the kernel side remembers for `TIME_WAIT`
//! sockets, which have no process any more.
//!
//! A log, oldest forgotten first, in chunks: a CPU takes the oldest chunk, fills
//! it, and takes the next. So remembering costs no search and no lock but one in
//! [`CHUNK`] times, and what is forgotten is always older than what is not.

use crate::event::Task;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Closed connections in a chunk; a power of two.
pub const CHUNK: usize = 64;

/// Chunks; together they remember 131,072 connections.
pub const CHUNKS: u32 = 2048;

/// A connection, seen from the end that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connection {
    /// Local address, network order; an IPv4 address takes the first four bytes.
    pub local: [u8; 16],
    /// Remote address, likewise.
    pub remote: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
}

/// One closed connection. It is whole if `begin` and `end` are equal and not 0:
/// while it is written `end` is 0, so that whoever copies it meanwhile, from its
/// first byte to its last, sees that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Closed {
    /// When: nanoseconds of `CLOCK_BOOTTIME`.
    pub begin: u64,
    /// Which connection.
    pub connection: Connection,
    /// Who closed it.
    pub by: Task,
    /// `begin` once more.
    pub end: u64,
}

/// A chunk of the log, the value of the map `CLOSED`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Chunk {
    /// The CPU that fills it.
    pub cpu: u32,
    /// Zero.
    pub pad: u32,
    /// `begin` of the entry that was written last.
    pub newest: u64,
    /// Some may be empty (all zeroes).
    pub closed: [Closed; CHUNK],
}

/// Where a CPU writes next, the value of the map `CURSOR`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cursor {
    /// Index of its chunk.
    pub chunk: u32,
    /// Entries left in it; 0: it needs another one.
    pub left: u32,
    /// When the last connection that this CPU forgot was closed: nanoseconds of
    /// `CLOCK_BOOTTIME`; 0: it forgot none.
    pub forgotten_until: u64,
    /// Closed connections that could not be remembered.
    pub lost: u64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(CHUNK.is_power_of_two());
    assert!(size_of::<Connection>() == 40);
    assert!(offset_of!(Connection, netns) == 32);
    assert!(size_of::<Closed>() == 96);
    assert!(align_of::<Closed>() == 8);
    assert!(offset_of!(Closed, by) == 48);
    assert!(offset_of!(Closed, end) == 88);
    assert!(size_of::<Chunk>() == 16 + 96 * CHUNK);
    assert!(size_of::<Cursor>() == 24);
};

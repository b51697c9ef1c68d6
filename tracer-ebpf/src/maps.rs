//! Every map, with what it is for and who writes it.

use crate::{allowance::Allowance, packet::Segment};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf},
};
use tracer_common::{
    CHUNKS, COUNT_KEYS, Chunk, CountKey, Cursor, Kind, RING_BYTES, Tally, Task, Verification, slot,
};

/// Descriptions, on their way to user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES as u32, 0);

/// When this CPU last woke the reader of [`EVENTS`]: `CLOCK_BOOTTIME`, ns.
#[map]
pub static WOKEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// How many of each [`Kind`] were described lately; index: its number.
#[map]
pub static ALLOWANCES: Array<Allowance> = Array::with_max_entries(Kind::LEN, 0);

/// Exact counters by process or listener, see [`CountKey`].
#[map]
pub static COUNTS: PerCpuHashMap<CountKey, Tally> = PerCpuHashMap::with_max_entries(COUNT_KEYS, 0);

/// What [`COUNTS`] had no room for, by namespace, kind and cause only.
#[map]
pub static UNATTRIBUTED: PerCpuHashMap<CountKey, Tally> = PerCpuHashMap::with_max_entries(1024, 0);

/// What neither had room for.
#[map]
pub static UNPLACED: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// Where failures are counted that tracer causes itself; nobody reads it.
#[map]
pub static UNWANTED: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// Counters about tracer itself, see [`slot`].
#[map]
pub static HEALTH: PerCpuArray<u64> = PerCpuArray::with_max_entries(slot::LEN, 0);

/// The namespace of the verification, see [`Verification`]; user space writes it.
#[map]
pub static VERIFICATION: Array<Verification> = Array::with_max_entries(1, 0);

/// Who opened and who accepts from a listener; key: address of its `sock`.
#[map]
pub static LISTENERS: LruHashMap<u64, Listener> = LruHashMap::with_max_entries(8192, 0);

/// See [`LISTENERS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Listener {
    /// Inode of the socket: an address that was reused shows another one.
    pub inode: u64,
    /// Who called `listen()`; zero if that was before tracer.
    pub opener: Task,
    /// Whom `accept()` last returned a connection; zero: nobody since tracer started.
    pub acceptor: Task,
    /// See [`tracer_common::Event::accepts`].
    pub accepts: u64,
    /// See [`tracer_common::Event::accept_failures`].
    pub failures: u64,
    /// See [`tracer_common::Event::accept_errno`].
    pub errno: u64,
    /// What `listen()` was called with.
    pub asked: Asked,
}

/// See [`Listener`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Asked {
    pub backlog: i32,
    pub somaxconn: u32,
    /// 1: the other two are known.
    pub is_known: u32,
    pub pad: u32,
}

/// Who closed which connection, see [`tracer_common::Closed`].
#[map]
pub static CLOSED: Array<Chunk> = Array::with_max_entries(CHUNKS, 0);

/// The chunks of [`CLOSED`], oldest first; user space puts them in.
#[map]
pub static OLDEST: Queue<u32> = Queue::with_max_entries(CHUNKS, 0);

/// Where each CPU writes in [`CLOSED`].
#[map]
pub static CURSOR: PerCpuArray<Cursor> = PerCpuArray::with_max_entries(1, 0);

/// The SYN that this CPU is deciding on; see `hooks/syn.rs`.
#[map]
pub static SYN: PerCpuArray<Syn> = PerCpuArray::with_max_entries(1, 0);

/// See [`SYN`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Syn {
    /// Address of the listener; 0: none.
    pub sk: u64,
    /// Address of the packet, which the return hooks cannot see.
    pub skb: u64,
    pub accept_len: u32,
    pub accept_max: u32,
    pub request_len: u32,
    /// 1 once the kernel has made room for the request.
    pub accepted: u32,
}

/// `[0]`: what this kernel does with a SYN that finds the request queue exactly at its
/// limit and syncookies off, see [`tracer_common::request_limit`].
#[map]
pub static REQUEST_LIMIT: Array<u32> = Array::with_max_entries(1, 0);

/// Connect failures already reported, so that an outer hook of the same call
/// stays silent; key: pid_tgid, value: inode of the socket.
#[map]
pub static REPORTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);

/// Arguments kept from a function's or syscall's entry to its return where the
/// return alone cannot see them.
#[map]
pub static CALLS: LruHashMap<CallKey, Call> = LruHashMap::with_max_entries(8192, 0);

/// See [`CALLS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CallKey {
    pub pid_tgid: u64,
    /// Which function: nested ones must not share an entry.
    pub function: u64,
}

/// See [`CALLS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    pub arg0: u64,
    pub arg1: u64,
}

/// Sockets that had a port or a hash before `connect()` began; key: address of
/// the `sock`. Portable tier only, see `hooks/state.rs`.
#[map]
pub static CONNECTING: LruHashMap<u64, Connecting> = LruHashMap::with_max_entries(4096, 0);

/// See [`CONNECTING`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Connecting {
    pub port: u32,
    pub hash: u32,
}

/// The segment that this CPU is looking at; portable tier only.
#[map]
pub static SEGMENT: PerCpuArray<Segment> = PerCpuArray::with_max_entries(1, 0);

//! Who closed a connection: what the kernel side remembers for `TIME_WAIT`
//! sockets, which have no process any more.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many closed connections are remembered; the oldest go first. They take
/// about 100 bytes each.
pub const CLOSERS: u32 = 1 << 17;

/// Key of the map `CLOSERS`: a connection, seen from the end that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CloserKey {
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

/// Value of the map `CLOSERS` and key of the map `CLOSING`: a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Closer {
    /// See [`crate::Task::start_ns`].
    pub start_ns: u64,
    /// See [`crate::Task::tgid`].
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<CloserKey>() == 40);
    assert!(align_of::<CloserKey>() == 4);
    assert!(offset_of!(CloserKey, netns) == 32);
    assert!(size_of::<Closer>() == 16);
    assert!(offset_of!(Closer, tgid) == 8);
};

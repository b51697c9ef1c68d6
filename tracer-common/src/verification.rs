//! The network namespace in which tracer causes failures to verify its hooks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The value of the map `VERIFICATION`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Verification {
    /// Inode number of the namespace; 0: no verification is running. User space sets it
    /// while the namespace exists and clears it before the kernel can reuse the number.
    pub netns: u32,
    /// Zero.
    pub pad: u32,
    /// Failures that hooks saw there, whether the ring buffer had room for them or not.
    pub counted: u64,
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Verification>() == 16);
    assert!(offset_of!(Verification, counted) == 8);
};

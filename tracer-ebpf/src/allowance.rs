//! May one more failure be described, or were there too many lately?
//!
//! A flood must neither keep tracer busy nor hide others. Each kind has an allowance of
//! its own, so that dropped SYNs do not hide a `connect()` that failed; and within a kind
//! those who fail rarely come before those who fail often.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use tracer_common::{
    DESCRIBE_WINDOW_NS, DESCRIBED_PER_WINDOW, DESCRIBED_PER_WINDOW_QUIET, Kind, QUIET_PER_WINDOW,
    RING_BYTES, Tally,
};

use crate::maps::{ALLOWANCES, EVENTS};

/// How many failures of one kind were described in the window that is now.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Allowance {
    /// Which window: time divided by [`DESCRIBE_WINDOW_NS`].
    pub window: u64,
    pub used: u64,
}

/// Takes one from the allowance of `kind`, if there is one left at `now`
/// (`CLOCK_BOOTTIME`, ns) for the process or listener that `tally` is of.
///
/// What is read and written here is not locked: CPUs that come between each other may
/// describe a few more than allowed, and count exactly all the same.
#[inline(always)]
pub fn take(kind: Kind, tally: *mut Tally, now: u64) -> bool {
    let Some(allowance) = ALLOWANCES.get_ptr_mut(kind as u32) else {
        return true;
    };
    let window = now / DESCRIBE_WINDOW_NS;
    // SAFETY: a valid map value of this CPU's.
    let tally = unsafe { &mut *tally };
    if tally.window != window as u32 {
        tally.window = window as u32;
        tally.used = 0;
    }
    // SAFETY: a valid map value.
    let allowance = unsafe { &mut *allowance };
    if allowance.window != window {
        *allowance = Allowance { window, used: 0 };
    }
    let may = if tally.used < QUIET_PER_WINDOW {
        allowance.used < DESCRIBED_PER_WINDOW_QUIET
    } else {
        // Half of the ring is kept free for those who fail rarely.
        allowance.used < DESCRIBED_PER_WINDOW
            && EVENTS.query(BPF_RB_AVAIL_DATA as u64) < RING_BYTES as u64 / 2
    };
    if may {
        tally.used += 1;
        allowance.used += 1;
    }
    may
}

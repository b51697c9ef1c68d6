//! May one more failure be described, or were there too many lately?
//!
//! Whoever floods a listener must not be able to keep tracer busy as well. Each kind
//! has an allowance of its own, so that dropped SYNs do not hide a `connect()` that
//! failed.

use tracer_common::{DESCRIBE_WINDOW_NS, DESCRIBED_PER_WINDOW, Kind};

use crate::maps::ALLOWANCES;

/// How many failures of one kind were described in the window that is now.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Allowance {
    /// Which window: time divided by [`DESCRIBE_WINDOW_NS`].
    pub window: u64,
    pub used: u64,
}

/// Takes one from the allowance of `kind`, if there is one left at `now`
/// (`CLOCK_BOOTTIME`, ns).
#[inline(always)]
pub fn take(kind: Kind, now: u64) -> bool {
    let Some(allowance) = ALLOWANCES.get_ptr_mut(kind as u32) else {
        return true;
    };
    let window = now / DESCRIBE_WINDOW_NS;
    // SAFETY: a valid map value. CPUs that read and write between each other may
    // describe a few more than allowed, and count exactly all the same.
    unsafe {
        if (*allowance).window != window {
            *allowance = Allowance { window, used: 0 };
        }
        if (*allowance).used >= DESCRIBED_PER_WINDOW {
            return false;
        }
        (*allowance).used += 1;
    }
    true
}

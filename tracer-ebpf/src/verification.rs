//! Recognises failures that tracer causes itself to verify its hooks.
//!
//! They are always described and never counted: user space compares them with what it
//! did and shows them to nobody.

use crate::{emit::increment, maps::VERIFICATION};

/// Whether `netns` is the namespace of the verification; counts the failure there.
#[inline(always)]
pub fn takes(netns: u32) -> bool {
    let Some(verification) = VERIFICATION.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a valid map value, which user space replaces as a whole; `counted` is
    // written atomically.
    unsafe {
        if netns == 0 || (&raw const (*verification).netns).read_volatile() != netns {
            return false;
        }
        increment(&raw mut (*verification).counted);
    }
    true
}

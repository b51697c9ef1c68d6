//! Which failures does user space want described?

use tracer_common::{Cause, FILTER_VALUES, Filter, Kind, flag};

use crate::kernel::{current_task, is_below};

/// Patched by user space before load; constant for the verifier.
#[unsafe(no_mangle)]
static FILTER: Filter = Filter::EVERYTHING;

/// One value of [`FILTER`].
macro_rules! filter {
    ($($value:tt)+) => {
        // SAFETY: FILTER is a valid static; volatile, because user space replaces
        // its bytes after this was compiled.
        unsafe { core::ptr::read_volatile(&raw const FILTER.$($value)+) }
    };
}

/// Whether a failure is to be described.
#[inline(always)]
pub fn wants(kind: Kind, cause: Cause, netns: u32) -> bool {
    filter!(kinds) >> kind as u32 & 1 == 1
        && filter!(causes) >> cause as u32 & 1 == 1
        && wants_netns(netns)
        && (kind.is_drop() || wants_caller())
}

#[inline(always)]
fn wants_netns(netns: u32) -> bool {
    if filter!(netns[0]) == 0 {
        return true;
    }
    let mut index = 0;
    while index < FILTER_VALUES {
        if filter!(netns[index]) == netns {
            return true;
        }
        index += 1;
    }
    false
}

/// [`flag::DESCENDANT`], if the running process is a descendant of the one asked for.
#[inline(always)]
pub fn descent() -> u32 {
    let ancestor = filter!(ancestor);
    if ancestor != 0 && is_below(ancestor) {
        flag::DESCENDANT
    } else {
        0
    }
}

#[inline(always)]
fn wants_caller() -> bool {
    let is_anyones = filter!(callers[0]) == 0;
    let has_ancestor = filter!(ancestor) != 0;
    if is_anyones && !has_ancestor {
        return true;
    }
    let caller = current_task();
    if caller.flags & flag::KERNEL_THREAD != 0 {
        return true;
    }
    if has_ancestor && caller.flags & flag::DESCENDANT == 0 {
        return false;
    }
    if is_anyones {
        return true;
    }
    let mut index = 0;
    while index < FILTER_VALUES {
        if filter!(callers[index]) == caller.tgid {
            return true;
        }
        index += 1;
    }
    false
}

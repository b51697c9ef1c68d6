//! Gives privileges up: once everything is attached, tracer needs few of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    thread::{
        self, CapabilitySet as Set, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

use super::privileges::{Wish, kept};

/// The capabilities that this thread may use.
pub(crate) fn effective() -> Set {
    capabilities(None).map_or(Set::empty(), |sets| sets.effective)
}

/// Drops all capabilities but those that are needed on, for good, also for what this
/// thread starts from now on. To be called while there is no other thread, since each
/// has its own. Returns what is kept.
///
/// `can_read`: whether the kernel lets the maps be read. Before 5.19 it may not do
/// that for a process that could not load them; no version tells, so it is tried.
/// `written`: a file that is going to be written.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn reduce(
    wish: Wish,
    can_read: impl Fn() -> bool,
    written: Option<&Path>,
) -> Result<Set> {
    let before = capabilities(None).context("capabilities cannot be read")?;
    let mut kept = kept(wish) & before.permitted;
    // Not permitted without CAP_SETPCAP, and then not needed: no_new_privs has the
    // same effect. Ends at the first number that the kernel does not know.
    for number in 0..u64::BITS {
        if remove_capability_from_bounding_set(Set::from_bits_retain(1 << number)).is_err() {
            break;
        }
    }
    // None can have been set on old kernels that know no ambient set.
    let _ = clear_ambient_capability_set();
    let set = |effective, permitted| {
        let sets = CapabilitySets {
            effective,
            permitted,
            inheritable: Set::empty(),
        };
        set_capabilities(None, sets).context("capabilities cannot be dropped")
    };
    // First only out of use, so that what turns out to be needed can still be kept.
    set(kept, before.permitted)?;
    if !can_read() {
        kept |= Set::BPF & before.permitted;
    }
    if !wish.drops_all && written.is_some_and(|file| !is_writable(file)) {
        kept |= Set::DAC_OVERRIDE & before.permitted;
    }
    set(kept, kept)?;
    thread::set_no_new_privs(true).context("no_new_privs cannot be set")?;
    Ok(kept)
}

/// Whether this file, and others beside it, can be written without privileges.
fn is_writable(file: &Path) -> bool {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    may(&directory, Access::WRITE_OK | Access::EXEC_OK)
        && (!file.exists() || may(file, Access::WRITE_OK))
}

/// The names of capabilities, as people write them.
pub(crate) fn names(set: Set) -> Vec<String> {
    set.iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}

//! Tries what privileges are needed for: what works is not missing, whatever the
//! capabilities say.

use std::{fs, io};

use rustix::thread::CapabilitySet;

use super::{netns, privileges::Tried};

/// Tries it, where `effective` lacks the capability that would settle it.
pub(crate) fn privileges(effective: CapabilitySet) -> Tried {
    use CapabilitySet as Set;
    let has = |set| effective.contains(set);
    let mut tried = Tried::default();
    if !has(Set::DAC_READ_SEARCH) || !has(Set::SYS_PTRACE) {
        (tried.lists_descriptors, tried.sees_descriptors) = descriptors();
    }
    if !has(Set::SYS_ADMIN) {
        tried.enters_namespaces = namespaces();
    }
    tried
}

/// Whether descriptors of every other process can be listed, and seen.
fn descriptors() -> (Option<bool>, Option<bool>) {
    let own = std::process::id();
    let (mut lists, mut sees) = (None, None);
    for pid in netns::pids().filter(|pid| *pid != own) {
        match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(_) => lists = lists.or(Some(true)),
            Err(error) if is_refusal(&error) => lists = Some(false),
            // Gone meanwhile.
            Err(_) => continue,
        }
        // The same question (ptrace_may_access) as for what descriptors are.
        match fs::read_link(format!("/proc/{pid}/ns/net")) {
            Ok(_) => sees = sees.or(Some(true)),
            Err(error) if is_refusal(&error) => sees = Some(false),
            Err(_) => {}
        }
        if (lists, sees) == (Some(false), Some(false)) {
            break;
        }
    }
    (lists, sees)
}

/// Whether another network namespace can be entered.
fn namespaces() -> Option<bool> {
    let own = netns::of_process(std::process::id());
    let others = netns::all().into_iter();
    let mut others = others.filter(|(inum, _)| Some(*inum) != own);
    others.find_map(|(_, path)| match netns::inside(&path, || Ok(())) {
        Ok(()) => Some(true),
        Err(error) if is_refusal(&error) => Some(false),
        Err(_) => None,
    })
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

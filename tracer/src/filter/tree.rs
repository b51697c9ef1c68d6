//! Recognises the processes of a traced command: it and all its descendants.
//!
//! tracer adopts orphans among them (`PR_SET_CHILD_SUBREAPER`), so tracer is an ancestor of
//! each for as long as it lives. The kernel side looks for that ancestor while a failing
//! call runs ([`flag::DESCENDANT`]), which finds a process that ends right after, too.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    time::{Duration, Instant},
};

use tracer_common::{Event, flag};

use crate::{attribute::process::parse_stat, host::netns, model::Failure};

/// A holder of a listener is looked up again after this long.
const FRESH: Duration = Duration::from_secs(1);

/// How many holders are remembered at most.
const REMEMBERED: usize = 4096;

/// How many ancestors of a process are looked at.
const GENERATIONS: u32 = 64;

/// The processes below one, which is not among them.
pub(crate) struct Tree {
    ancestor: u32,
    holders: HashMap<u32, (bool, Instant)>,
    /// Where its processes failed, and where it began.
    places: BTreeSet<u32>,
}

impl Tree {
    /// The processes below the one with this id.
    pub(crate) fn below(ancestor: u32) -> Self {
        Self {
            ancestor,
            holders: HashMap::new(),
            places: netns::of_process(ancestor).into_iter().collect(),
        }
    }

    /// Whether a failure is of one of its processes: it called, or it opened, holds or
    /// accepts from the listener.
    pub(crate) fn wants(&mut self, event: &Event, failure: &Failure) -> bool {
        let tasks = [&event.caller, &event.listener, &event.acceptor];
        let is_wanted = tasks.iter().any(|task| task.flags & flag::DESCENDANT != 0)
            || self.has_holder(event, failure);
        if is_wanted {
            self.places.insert(failure.netns);
        }
        is_wanted
    }

    fn has_holder(&mut self, event: &Event, failure: &Failure) -> bool {
        // The kernel side has decided about a caller, but not for whom a kernel thread
        // works.
        let by_kernel = event.caller.flags & flag::KERNEL_THREAD != 0;
        let of_call = failure.process.iter().map(|(process, _)| process.pid);
        let of_call = of_call.filter(|_| by_kernel);
        let pids: Vec<_> = failure.holders.iter().map(|holder| holder.pid).collect();
        of_call.chain(pids).any(|pid| self.has(pid))
    }

    fn has(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        if let Some((is_below, looked)) = self.holders.get(&pid)
            && now.duration_since(*looked) < FRESH
        {
            return *is_below;
        }
        let is_below = is_below(pid, self.ancestor);
        // One that is gone stays what it was.
        let known = self.holders.get(&pid).is_some_and(|(known, _)| *known);
        let is_below = is_below.unwrap_or(known);
        if self.holders.len() >= REMEMBERED {
            self.holders.clear();
        }
        self.holders.insert(pid, (is_below, now));
        is_below
    }

    /// Whether one of its processes may have failed in this network namespace.
    pub(crate) fn is_in(&self, netns: u32) -> bool {
        self.places.contains(&netns)
    }
}

/// Whether `ancestor` is one of this process. `None`: the process is gone.
fn is_below(pid: u32, ancestor: u32) -> Option<bool> {
    let parent = |pid: u32| {
        let stat = parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
        Some(stat.parent)
    };
    let mut parent_of = parent(pid)?;
    for _ in 0..GENERATIONS {
        if parent_of == ancestor {
            return Some(true);
        }
        match parent(parent_of) {
            Some(next) => parent_of = next,
            // The first process has no parent; another ended meanwhile.
            None => break,
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_below_its_parents_only() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert_eq!(is_below(own, parent), Some(true));
        assert_eq!(is_below(own, own), Some(false));
        assert_eq!(is_below(parent, own), Some(false));
        assert_eq!(is_below(u32::MAX, own), None);
    }
}

//! What this process may do, what each missing capability costs, and which ones are
//! kept once everything is attached. Pure; docs/privileges.md is the page about it.

use rustix::thread::CapabilitySet as Set;

/// A capability that tracer has a use for.
pub(crate) struct Capability {
    pub(crate) name: &'static str,
    pub(crate) set: Set,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// What is lost without it, if trying does not show otherwise; `None`: nothing works,
    /// or what is refused says so by itself.
    pub(crate) cost: Option<&'static str>,
    /// Nothing works without it.
    pub(crate) is_needed: bool,
    /// Others that do as well (include/uapi/linux/capability.h).
    implied_by: Set,
    /// Kept for as long as tracer runs.
    is_kept: bool,
}

/// All of them, those that are needed most first.
pub(crate) const CAPABILITIES: &[Capability] = &[
    Capability {
        name: "CAP_BPF",
        set: Set::BPF,
        purpose: "to make maps and to load programs",
        cost: None,
        is_needed: true,
        // Before CAP_BPF and CAP_PERFMON were split off it was all of them.
        implied_by: Set::SYS_ADMIN,
        is_kept: false,
    },
    Capability {
        name: "CAP_PERFMON",
        set: Set::PERFMON,
        purpose: "to attach to functions and tracepoints, and to read kernel memory",
        cost: None,
        is_needed: true,
        implied_by: Set::SYS_ADMIN,
        is_kept: false,
    },
    Capability {
        name: "CAP_NET_ADMIN",
        set: Set::NET_ADMIN,
        purpose: "to attach cgroup_skb programs",
        // Attaching is tried, and other capabilities may do: what is refused then is said.
        cost: None,
        is_needed: false,
        implied_by: Set::empty(),
        // SIOCGSKNS (net/socket.c) asks for it: in which namespace a socket is.
        is_kept: true,
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        set: Set::SYS_PTRACE,
        purpose: "to see which sockets other users' processes have open, and in which network namespace they are",
        cost: Some(
            "file descriptors of other users' processes cannot be read: listeners that were open before tracer may stay without a name",
        ),
        is_needed: false,
        implied_by: Set::empty(),
        is_kept: true,
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        set: Set::DAC_READ_SEARCH,
        purpose: "to list other users' file descriptors, and to read tracefs",
        cost: Some(
            "other users' file descriptors cannot be listed: who holds ports and listeners may stay unknown",
        ),
        is_needed: false,
        implied_by: Set::DAC_OVERRIDE,
        is_kept: true,
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        set: Set::SYS_ADMIN,
        purpose: "to look into other network namespaces, and to mount tracefs and cgroup2 for a moment where they are missing",
        cost: Some(
            "other network namespaces cannot be entered: their ports are counted but not explained",
        ),
        is_needed: false,
        implied_by: Set::empty(),
        is_kept: true,
    },
];

/// What the effective capabilities mean for tracer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Capabilities without which nothing works.
    pub(crate) missing: Vec<&'static str>,
    /// What the other missing ones cost, as sentences.
    pub(crate) costs: Vec<String>,
}

impl Capability {
    /// Whether a process with these capabilities has it.
    pub(crate) fn is_in(&self, effective: Set) -> bool {
        effective.intersects(self.set.union(self.implied_by))
    }
}

/// What was tried and worked, whatever the capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// File descriptors of every other process can be listed; `None`: there was none.
    pub(crate) lists_descriptors: Option<bool>,
    /// It can be seen what they are; `None`: there was none.
    pub(crate) sees_descriptors: Option<bool>,
    /// Another network namespace can be entered; `None`: there was none.
    pub(crate) enters_namespaces: Option<bool>,
}

impl Tried {
    /// Whether what this capability is for works; `None`: that was not tried.
    pub(crate) fn works(&self, capability: &Capability) -> Option<bool> {
        match capability.set {
            Set::DAC_READ_SEARCH => self.lists_descriptors,
            Set::SYS_PTRACE => self.sees_descriptors,
            Set::SYS_ADMIN => self.enters_namespaces,
            _ => None,
        }
    }
}

/// Judges effective capabilities, after trying what can be tried without harm.
pub(crate) fn judge(effective: Set, tried: &Tried) -> Privileges {
    let mut privileges = Privileges {
        missing: Vec::new(),
        costs: Vec::new(),
    };
    let lacking = CAPABILITIES.iter().filter(|one| !one.is_in(effective));
    for capability in lacking {
        if capability.is_needed {
            privileges.missing.push(capability.name);
        } else if let Some(cost) = capability.cost
            && tried.works(capability) != Some(true)
        {
            privileges
                .costs
                .push(format!("without {}, {cost}", capability.name));
        }
    }
    privileges
}

/// What is to go on when everything is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Nothing is to be kept (`--drop-all`).
    pub(crate) drops_all: bool,
    /// A command runs, to which signals are passed on.
    pub(crate) has_command: bool,
}

/// What is kept for as long as tracer runs.
pub(crate) fn kept(wish: Wish) -> Set {
    if wish.drops_all {
        return Set::empty();
    }
    let kept = CAPABILITIES.iter().filter(|one| one.is_kept);
    let mut kept = kept.fold(Set::empty(), |kept, one| kept | one.set);
    if wish.has_command {
        // It may run as another user.
        kept |= Set::KILL;
    }
    kept
}

/// What it costs to keep nothing.
pub(crate) const COST_OF_NONE: &str = "--drop-all: who holds ports is not known, nor are the ports of other network namespaces; processes that appear later have no exe; the kernel's counters of namespaces that appear later are not read";

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_TRIED: Tried = Tried {
        lists_descriptors: None,
        sees_descriptors: None,
        enters_namespaces: None,
    };

    #[test]
    fn root_lacks_nothing() {
        let judged = judge(Set::all(), &NOT_TRIED);
        assert_eq!(
            judged,
            Privileges {
                missing: vec![],
                costs: vec![]
            }
        );
    }

    #[test]
    fn nobody_lacks_the_essential_two() {
        let judged = judge(Set::empty(), &NOT_TRIED);
        assert_eq!(judged.missing, ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(judged.costs.len(), 3);
    }

    #[test]
    fn some_imply_others() {
        let judged = judge(Set::SYS_ADMIN | Set::DAC_OVERRIDE, &NOT_TRIED);
        assert_eq!(judged.missing, [""; 0]);
        // Attaching without CAP_NET_ADMIN is tried, and costs nothing that is known before.
        assert!(!judged.costs.iter().any(|cost| cost.contains("cgroup_skb")));
        assert_eq!(judged.costs.len(), 1);
    }

    #[test]
    fn what_works_costs_nothing() {
        let tried = Tried {
            lists_descriptors: Some(true),
            sees_descriptors: Some(false),
            enters_namespaces: Some(true),
        };
        let judged = judge(Set::BPF | Set::PERFMON, &tried);
        assert_eq!(judged.costs.len(), 1);
        assert!(judged.costs[0].starts_with("without CAP_SYS_PTRACE, "));
    }

    #[test]
    fn what_is_kept() {
        let late = Set::NET_ADMIN | Set::SYS_PTRACE | Set::DAC_READ_SEARCH | Set::SYS_ADMIN;
        let mut wish = Wish::default();
        assert_eq!(kept(wish), late);
        wish.has_command = true;
        assert_eq!(kept(wish), late | Set::KILL);
        wish.drops_all = true;
        assert_eq!(kept(wish), Set::empty());
    }
}

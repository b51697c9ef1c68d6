//! What this process may do, and in one line what it may not.

/// A capability that tracer has a use for, with its bit in `CapEff`
/// (include/uapi/linux/capability.h).
struct Capability {
    name: &'static str,
    bit: u32,
    /// What is lost without it; `None`: nothing works.
    cost: Option<&'static str>,
}

const CAPABILITIES: &[Capability] = &[
    Capability {
        name: "CAP_BPF",
        bit: 39,
        cost: None,
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        cost: None,
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        cost: Some(
            "cgroup_skb cannot be attached: no listen-queue drops where function hooks are refused",
        ),
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        cost: Some(
            "file descriptors of other users' processes cannot be read: listeners that were open before tracer may stay without a name",
        ),
    },
];
const SYS_ADMIN: u32 = 21;

/// What the effective capabilities mean for tracer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Capabilities without which nothing works.
    pub(crate) missing: Vec<&'static str>,
    /// What the other missing ones cost, as sentences.
    pub(crate) costs: Vec<String>,
}

/// Judges the text of `/proc/self/status`.
pub(crate) fn judge(status: &str) -> Privileges {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let mut privileges = Privileges {
        missing: Vec::new(),
        costs: Vec::new(),
    };
    for capability in CAPABILITIES {
        // Before CAP_BPF and CAP_PERFMON were split off, CAP_SYS_ADMIN was
        // all of them, and it still implies them (capability.h).
        let implied = capability.cost.is_none() && has(SYS_ADMIN);
        if has(capability.bit) || implied {
            continue;
        }
        match capability.cost {
            None => privileges.missing.push(capability.name),
            Some(cost) => privileges
                .costs
                .push(format!("without {}, {cost}", capability.name)),
        }
    }
    privileges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(mask: u64) -> String {
        format!("Name:\ttracer\nCapInh:\t0\nCapEff:\t{mask:016x}\n")
    }

    #[test]
    fn root_lacks_nothing() {
        let judged = judge(&status(0x1ff_ffff_ffff));
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
        assert_eq!(judge(&status(0)).missing, ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(judge("").missing, ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(judge("CapEff: zz").missing, ["CAP_BPF", "CAP_PERFMON"]);
    }

    #[test]
    fn sys_admin_implies_the_essential_two() {
        let judged = judge(&status(1 << SYS_ADMIN));
        assert_eq!(judged.missing, [""; 0]);
        assert_eq!(judged.costs.len(), 2);
    }
}

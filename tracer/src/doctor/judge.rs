//! Can tracer do its job here, and what is missing? Pure.

use tracer_common::{CHUNK, CHUNKS, RING_BYTES};

use super::look::{Attached, Facts};
use crate::{
    explain::finding::BoundUnused,
    host::{
        hidepid, pid_namespace,
        plan::Exactness,
        privileges::{CAPABILITIES, Wish, kept},
    },
    probe::Served,
};

/// What something means for tracer's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Fine,
    /// Something is lost.
    Costs,
    /// Nothing works.
    Stops,
}

impl Level {
    /// The name in records and in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Costs => "costs",
            Self::Stops => "stops",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Stable.
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// What was found.
    pub(super) found: String,
    /// What is lost, as a sentence.
    pub(super) cost: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) checks: Vec<Check>,
    /// Why nothing works.
    pub(super) stopped: Option<String>,
    pub(super) exit_code: u8,
}

impl Diagnosis {
    /// How many things cost something.
    pub(super) fn costs(&self) -> usize {
        let costs = |check: &&Check| check.level == Level::Costs;
        self.checks.iter().filter(costs).count()
    }
}

/// Attaching takes a tenth of this where the kernel allows.
const SLOW_MS: u64 = 5000;

/// Judges facts.
pub(super) fn judge(facts: &Facts) -> Diagnosis {
    let mut checks = capabilities(facts);
    checks.extend(kernel(facts));
    checks.extend(mounts(facts));
    if let Ok(attached) = &facts.attached {
        checks.extend(attached.served.iter().map(hook));
        checks.extend(cost(attached));
    }
    checks.extend(surroundings(facts));
    let refused = facts.attached.as_ref().err();
    let worst = checks.iter().map(|check| check.level).max();
    Diagnosis {
        stopped: refused.map(|refused| refused.why.clone()),
        exit_code: match refused {
            Some(refused) => refused.exit_code,
            None => u8::from(worst > Some(Level::Fine)),
        },
        checks,
    }
}

fn fine(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        name,
        level: Level::Fine,
        found: found.into(),
        cost: None,
    }
}

fn costs(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Check {
    Check {
        level: Level::Costs,
        cost: Some(cost.into()),
        ..fine(name, found)
    }
}

fn stops(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Check {
    Check {
        level: Level::Stops,
        ..costs(name, found, cost)
    }
}

fn capabilities(facts: &Facts) -> Vec<Check> {
    let late = kept(Wish::default());
    let all = CAPABILITIES.iter().map(|one| {
        let until = match late.contains(one.set) {
            true => "kept",
            false => "dropped once attached",
        };
        match (one.is_in(facts.effective), one.cost) {
            (true, _) => fine(one.name, format!("has it, {} ({until})", one.purpose)),
            (false, Some(cost)) => costs(one.name, "lacks it", cost),
            (false, None) => {
                let found = format!("lacks it, needed {}", one.purpose);
                stops(one.name, found, "nothing can be attached")
            }
        }
    });
    all.collect()
}

fn kernel(facts: &Facts) -> Vec<Check> {
    let lockdown = match facts.lockdown.as_deref() {
        None => fine("lockdown", "not there, or securityfs is not mounted"),
        Some(mode) if mode.contains("[confidentiality]") => stops(
            "lockdown",
            "confidentiality",
            "BPF may not read kernel memory",
        ),
        Some(mode) if mode.contains("[integrity]") => {
            fine("lockdown", "integrity: BPF may read kernel memory")
        }
        Some(_) => fine("lockdown", "off"),
    };
    let security_modules = match &facts.security_modules {
        None => "not known: securityfs is not mounted",
        Some(names) if names.is_empty() => "none",
        Some(names) => names,
    };
    let unprivileged = match facts.unprivileged_bpf_disabled {
        None => "not known".to_owned(),
        Some(0) => "0: anyone may load some programs; tracer does not need that".to_owned(),
        Some(value) => format!("{value}: only with capabilities"),
    };
    let btf = match &facts.btf {
        Ok(bytes) => fine("btf", format!("{:.1} MB", megabytes(*bytes))),
        Err(why) => stops(
            "btf",
            why.clone(),
            "where things are in kernel memory is not known: tracer needs CONFIG_DEBUG_INFO_BTF=y",
        ),
    };
    vec![
        lockdown,
        fine("security_modules", security_modules),
        fine("unprivileged_bpf_disabled", unprivileged),
        btf,
    ]
}

/// What is not mounted is mounted for a moment, out of everybody's sight.
fn mounts(facts: &Facts) -> Vec<Check> {
    let may_mount = facts
        .effective
        .contains(rustix::thread::CapabilitySet::SYS_ADMIN);
    let both = [
        (
            "tracefs",
            &facts.tracefs,
            "tracepoints and kprobes cannot be attached",
        ),
        ("cgroup2", &facts.cgroup2, "cgroup_skb cannot be attached"),
    ];
    let checks = both.into_iter().map(|(name, mount, cost)| match mount {
        Some(path) => fine(name, format!("mounted at {}", path.display())),
        None if may_mount => fine(
            name,
            "not mounted: tracer mounts it for itself while attaching",
        ),
        None => costs(name, "not mounted, and tracer may not mount it", cost),
    });
    checks.collect()
}

fn hook(served: &Served) -> Check {
    let name = served.purpose.name();
    let reason = |text: &Option<String>| match text {
        Some(why) => format!(" (not better: {why})"),
        None => String::new(),
    };
    match &served.by {
        None => {
            let why = served.reason.as_deref().unwrap_or("no hook for it");
            costs(name, format!("blind ({why})"), served.purpose.loss())
        }
        Some(by) => {
            let found = format!(
                "{}, {}: {}{}",
                by.tier.name(),
                by.exactness.name(),
                by.targets.join(" + "),
                reason(&served.reason)
            );
            match by.exactness {
                Exactness::Exact => fine(name, found),
                Exactness::Near => costs(name, found, by.note.unwrap_or("not exact")),
            }
        }
    }
}

fn cost(attached: &Attached) -> Vec<Check> {
    let memory = format!(
        "maps {:.1} MB (a ring of {} KiB, {} closed connections remembered), programs {:.1} MB",
        megabytes(attached.maps),
        RING_BYTES / 1024,
        u64::from(CHUNKS) * CHUNK as u64,
        megabytes(attached.programs)
    );
    let time = match attached.took_ms {
        slow if slow > SLOW_MS => format!("{slow} ms: slow"),
        ms => format!("{ms} ms"),
    };
    let maps = match attached.can_read {
        true => fine("maps", "readable"),
        false => stops("maps", "not readable", "counts and events cannot be read"),
    };
    vec![
        maps,
        fine("kernel_memory", memory),
        fine("time_to_attach", time),
    ]
}

fn surroundings(facts: &Facts) -> Vec<Check> {
    let counters = match &facts.counters {
        Ok(()) => fine("kernel_counters", "readable"),
        Err(why) => costs(
            "kernel_counters",
            why.clone(),
            "tracer's counts cannot be set beside the kernel's own",
        ),
    };
    let option = facts.hidepid.as_deref().unwrap_or("off");
    let hidepid = match (option, facts.hides_processes) {
        (value, true) => costs("hidepid", value, hidepid::COST),
        ("0" | "off", false) => fine("hidepid", "off"),
        (value, false) => fine("hidepid", format!("{value}: not for tracer")),
    };
    let pid_namespace = match facts.is_host_pid_namespace {
        Some(false) => costs("pid_namespace", "a container's", pid_namespace::COST),
        Some(true) => fine("pid_namespace", "the host's"),
        None => fine("pid_namespace", "not known"),
    };
    vec![
        counters,
        hidepid,
        pid_namespace,
        namespaces(facts),
        bound_unused(facts),
    ]
}

fn namespaces(facts: &Facts) -> Check {
    let seen = facts.namespaces;
    let found = match seen.refused {
        0 => format!("{} seen, all can be entered", seen.entered),
        _ => format!(
            "{} seen, {} cannot be entered",
            seen.entered + seen.refused,
            seen.refused
        ),
    };
    match (seen.refused, seen.untold) {
        (0, 0) => fine("network_namespaces", found),
        (_, 0) => costs(
            "network_namespaces",
            found,
            "ports of namespaces that cannot be entered are not explained",
        ),
        (_, untold) => costs(
            "network_namespaces",
            format!("{found}; not told by {untold} of the processes"),
            "namespaces that only other users' processes are in are not seen",
        ),
    }
}

fn bound_unused(facts: &Facts) -> Check {
    match &facts.bound_unused {
        BoundUnused::SockDiag => fine("bound_unused", "listed by the kernel (sock_diag)"),
        BoundUnused::PidfdGetfd => fine(
            "bound_unused",
            "not listed by this kernel: each socket is asked (pidfd_getfd)",
        ),
        BoundUnused::Incomplete(why) => costs(
            "bound_unused",
            why.clone(),
            "ports that are bound and unused may stay unexplained",
        ),
    }
}

/// For people: two digits are enough.
fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "rounded anyway")]
    let bytes = bytes as f64;
    bytes / 1e6
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::*;
    use crate::{
        doctor::look::{Namespaces, Refused},
        host::plan::{Purpose, Tier},
        probe::By,
    };

    fn served(exactness: Option<Exactness>) -> Served {
        Served {
            purpose: Purpose::SynDrop,
            by: exactness.map(|exactness| By {
                tier: Tier::Portable,
                targets: vec!["cgroup_skb ingress".into()],
                exactness,
                note: Some("predicted"),
            }),
            reason: Some("kprobe: refused".into()),
        }
    }

    fn attached(exactness: Option<Exactness>) -> Attached {
        Attached {
            served: vec![served(exactness)],
            took_ms: 100,
            maps: 20_000_000,
            programs: 100_000,
            can_read: true,
        }
    }

    /// A machine with nothing to complain about.
    fn healthy() -> Facts {
        Facts {
            kernel: "6.18".into(),
            effective: CapabilitySet::all(),
            security_modules: Some("lockdown,capability,apparmor".into()),
            lockdown: Some("[none] integrity confidentiality".into()),
            unprivileged_bpf_disabled: Some(2),
            btf: Ok(5_000_000),
            tracefs: None,
            cgroup2: Some("/sys/fs/cgroup".into()),
            attached: Ok(attached(Some(Exactness::Exact))),
            counters: Ok(()),
            hidepid: None,
            hides_processes: false,
            is_host_pid_namespace: Some(true),
            namespaces: Namespaces {
                entered: 1,
                ..Namespaces::default()
            },
            bound_unused: BoundUnused::SockDiag,
        }
    }

    /// The exit code, and what is not fine.
    fn diagnosed(change: impl FnOnce(&mut Facts)) -> (u8, Vec<(&'static str, Level)>) {
        let mut facts = healthy();
        change(&mut facts);
        let diagnosis = judge(&facts);
        let bad = diagnosis
            .checks
            .iter()
            .filter(|one| one.level > Level::Fine);
        for check in bad.clone() {
            assert!(check.cost.is_some(), "{check:?}");
        }
        let bad = bad.map(|check| (check.name, check.level)).collect();
        (diagnosis.exit_code, bad)
    }

    #[test]
    fn each_thing_has_its_cost() {
        use Level::{Costs, Stops};
        assert_eq!(diagnosed(|_| {}), (0, vec![]));
        type Case = (fn(&mut Facts), u8, &'static [(&'static str, Level)]);
        let table: [Case; 12] = [
            (
                |facts| facts.attached = Ok(attached(Some(Exactness::Near))),
                1,
                &[("syn_drop", Costs)],
            ),
            (
                |facts| facts.attached = Ok(attached(None)),
                1,
                &[("syn_drop", Costs)],
            ),
            (
                |facts| facts.effective.remove(CapabilitySet::SYS_ADMIN),
                1,
                &[("CAP_SYS_ADMIN", Costs), ("tracefs", Costs)],
            ),
            (
                |facts| {
                    facts.effective = CapabilitySet::all() - CapabilitySet::SYS_PTRACE;
                    facts.hidepid = Some("2".into());
                    facts.hides_processes = true;
                },
                1,
                &[("CAP_SYS_PTRACE", Costs), ("hidepid", Costs)],
            ),
            (|facts| facts.hidepid = Some("2".into()), 0, &[]),
            (|facts| facts.cgroup2 = None, 0, &[]),
            (
                |facts| facts.is_host_pid_namespace = Some(false),
                1,
                &[("pid_namespace", Costs)],
            ),
            (
                |facts| facts.namespaces.refused = 2,
                1,
                &[("network_namespaces", Costs)],
            ),
            (
                |facts| facts.namespaces.untold = 2,
                1,
                &[("network_namespaces", Costs)],
            ),
            (
                |facts| facts.bound_unused = BoundUnused::Incomplete("no".into()),
                1,
                &[("bound_unused", Costs)],
            ),
            (
                |facts| facts.counters = Err("no".into()),
                1,
                &[("kernel_counters", Costs)],
            ),
            (
                |facts| facts.lockdown = Some("none [confidentiality]".into()),
                1,
                &[("lockdown", Stops)],
            ),
        ];
        for (number, (change, code, bad)) in table.into_iter().enumerate() {
            assert_eq!(diagnosed(change), (code, bad.to_vec()), "{number}");
        }
    }

    #[test]
    fn what_stops_tracer_is_told_with_its_code() {
        for (exit_code, why) in [(3, "not permitted"), (4, "no BTF"), (1, "odd")] {
            let mut facts = healthy();
            facts.attached = Err(Refused {
                why: why.into(),
                exit_code,
            });
            let diagnosis = judge(&facts);
            assert_eq!(diagnosis.exit_code, exit_code);
            assert_eq!(diagnosis.stopped.as_deref(), Some(why));
        }
        let mut facts = healthy();
        facts.effective = CapabilitySet::empty();
        let diagnosis = judge(&facts);
        let stops = diagnosis
            .checks
            .iter()
            .filter(|one| one.level == Level::Stops);
        let stops: Vec<_> = stops.map(|one| one.name).collect();
        assert_eq!(stops, ["CAP_BPF", "CAP_PERFMON"]);
    }
}

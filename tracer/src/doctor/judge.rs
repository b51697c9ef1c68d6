//! Can tracer do its job here, and what is missing? Pure.

use tracer_common::{CHUNK, CHUNKS, RING_BYTES};

use super::look::{Attached, Facts};
use crate::{
    explain::finding::BoundUnused,
    host::{
        clock::Offsets,
        hidepid, pid_namespace,
        plan::Exactness,
        privileges::{CAPABILITIES, Wish, kept},
    },
    probe::Served,
    record::{Status, Verified},
    startup::MOUNTING_FAILED,
};

/// What something means for tracer's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Fine,
    /// It cannot be found out. Attaching, which is tried, shows what that means.
    Unknown,
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
            Self::Unknown => "unknown",
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
    /// How many things are not known.
    pub(super) fn unknown(&self) -> usize {
        let unknown = |check: &&Check| check.level == Level::Unknown;
        self.checks.iter().filter(unknown).count()
    }

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
        let verified = attached.verified.as_ref();
        let hooks = attached.served.iter();
        checks.extend(hooks.map(|served| self::verified(hook(served), served, verified)));
        checks.extend(cost(attached));
    }
    checks.extend(surroundings(facts));
    let refused = facts.attached.as_ref().err();
    let worst = checks.iter().map(|check| check.level).max();
    Diagnosis {
        stopped: refused.map(|refused| refused.why.clone()),
        exit_code: match refused {
            Some(refused) => refused.exit_code,
            None => u8::from(worst > Some(Level::Unknown)),
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

fn unknown(name: &'static str, why: impl Into<String>) -> Check {
    Check {
        level: Level::Unknown,
        ..fine(name, format!("not known: {}", why.into()))
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
        if one.is_in(facts.effective) {
            return fine(one.name, format!("has it, {} ({until})", one.purpose));
        }
        if one.is_needed {
            let found = format!("lacks it, needed {}", one.purpose);
            return stops(one.name, found, "nothing can be attached");
        }
        match (one.cost, facts.tried.works(one)) {
            (Some(_), Some(true)) => fine(one.name, "lacks it, and what it is for works"),
            (Some(cost), Some(false)) => costs(one.name, "lacks it; tried, and refused", cost),
            (Some(cost), None) => costs(one.name, "lacks it; there was nothing to try it on", cost),
            (None, _) => without_net_admin(one.name, facts),
        }
    });
    all.collect()
}

/// What it is for was tried while attaching, and other capabilities may do.
fn without_net_admin(name: &'static str, facts: &Facts) -> Check {
    const HOOK: &str = "cgroup_skb";
    let Ok(attached) = &facts.attached else {
        return unknown(name, "lacks it, and nothing could be attached to try it");
    };
    let by = attached.served.iter().filter_map(|one| one.by.as_ref());
    let mut targets = by.flat_map(|by| &by.targets);
    if targets.any(|target| target.starts_with(HOOK)) {
        return fine(name, "lacks it, and cgroup_skb is attached all the same");
    }
    let is_refused = |one: &Served| one.reason.as_ref().is_some_and(|why| why.contains(HOOK));
    match attached.served.iter().any(is_refused) {
        true => costs(
            name,
            "lacks it; cgroup_skb was refused",
            "listen-queue drops are not seen where function hooks are refused, too",
        ),
        false => fine(name, "lacks it, and no hook in use needs it"),
    }
}

fn kernel(facts: &Facts) -> Vec<Check> {
    let lockdown = match facts.lockdown.as_deref() {
        Err(why) => unknown("lockdown", why),
        Ok(mode) if mode.contains("[confidentiality]") => stops(
            "lockdown",
            "confidentiality",
            "BPF may not read kernel memory",
        ),
        Ok(mode) if mode.contains("[integrity]") => {
            fine("lockdown", "integrity: BPF may read kernel memory")
        }
        Ok(mode) if mode.contains("[none]") => fine("lockdown", "off"),
        Ok(mode) => unknown("lockdown", format!("the kernel says {mode:?}")),
    };
    let security_modules = match &facts.security_modules {
        Err(why) => unknown("security_modules", why),
        Ok(names) if names.is_empty() => fine("security_modules", "none"),
        Ok(names) => fine("security_modules", names),
    };
    let name = "unprivileged_bpf_disabled";
    let unprivileged = match &facts.unprivileged_bpf_disabled {
        Err(why) => unknown(name, why),
        Ok(0) => fine(
            name,
            "0: anyone may load some programs; tracer does not need that",
        ),
        Ok(value) => fine(name, format!("{value}: only with capabilities")),
    };
    let btf = match &facts.btf {
        Ok(bytes) => fine("btf", format!("{:.1} MB", megabytes(*bytes))),
        Err(why) => stops(
            "btf",
            why.clone(),
            "where things are in kernel memory is not known: tracer needs CONFIG_DEBUG_INFO_BTF=y",
        ),
    };
    vec![lockdown, security_modules, unprivileged, btf]
}

/// What is not mounted is mounted for a moment, out of everybody's sight. That was tried
/// while attaching.
fn mounts(facts: &Facts) -> Vec<Check> {
    let failed = facts.attached.as_ref().map(|attached| {
        let mut said = attached.degradations.iter();
        said.find(|sentence| sentence.starts_with(MOUNTING_FAILED))
    });
    let is_unreadable = facts.attached.as_ref().is_ok_and(|attached| {
        let mut reasons = attached.served.iter().filter_map(|one| one.reason.as_ref());
        reasons.any(|why| why.contains("tracing cannot be read"))
    });
    let both = [
        (
            "tracefs",
            &facts.tracefs,
            &facts.tracefs_is_readable,
            "tracepoints and kprobes cannot be attached",
        ),
        (
            "cgroup2",
            &facts.cgroup2,
            &Ok(()),
            "cgroup_skb cannot be attached",
        ),
    ];
    let checks =
        both.into_iter().map(
            |(name, mount, readable, cost)| match (mount, readable, &failed) {
                (Some(path), Ok(()), _) => fine(name, format!("mounted at {}", path.display())),
                (Some(path), Err(why), _) => {
                    let found = format!("mounted at {}, but {why}", path.display());
                    costs(name, found, cost)
                }
                // Mounted for a moment, and of no use.
                (None, Err(_), Ok(None)) if is_unreadable => costs(
                    name,
                    "not mounted; tracer mounted it for itself, and may not read it",
                    cost,
                ),
                (None, _, Ok(None)) => fine(
                    name,
                    "not mounted: tracer mounts it for itself while attaching",
                ),
                (None, _, Ok(Some(said))) => {
                    let why = said.strip_prefix(MOUNTING_FAILED).unwrap_or_default();
                    let found = format!("not mounted, and tracer may not mount it{why}");
                    costs(name, found, cost)
                }
                (None, _, Err(_)) => unknown(
                    name,
                    "it is not mounted, and whether tracer may mount it was not tried",
                ),
            },
        );
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
            match (by.exactness, &served.reason) {
                (Exactness::Exact, _) => fine(name, found),
                // Nothing better was refused: no kernel offers more.
                (Exactness::Near, None) => {
                    let note = by.note.unwrap_or("not exact");
                    fine(name, format!("{found} ({note}, on any kernel)"))
                }
                (Exactness::Near, Some(_)) => costs(name, found, by.note.unwrap_or("not exact")),
            }
        }
    }
}

/// Adds to the check of a hook whether it saw what doctor caused.
fn verified(mut check: Check, served: &Served, all: Result<&Verified, &String>) -> Check {
    let Some(by) = &served.by else {
        return check;
    };
    let purpose = served.purpose;
    let one = all.map(|all| all.purposes.iter().find(|one| one.purpose == purpose));
    let (status, reason) = match &one {
        Ok(Some(one)) => (one.status, one.reason.as_deref()),
        Ok(None) => (Status::NotVerified, None),
        Err(why) => (Status::NotVerified, Some(why.as_str())),
    };
    let reason = reason.map(|why| format!(" ({why})")).unwrap_or_default();
    let words = match status {
        Status::Verified => "verified",
        Status::NotVerified => "not verified",
        Status::Failed => "FAILED to see what doctor caused",
    };
    check.found = format!("{}; {words}{reason}", check.found);
    if status == Status::Failed {
        let note = by.note.unwrap_or("not exact");
        return costs(
            check.name,
            check.found,
            format!("it misses failures; {note}"),
        );
    }
    check
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
        slow if slow > SLOW_MS => costs(
            "time_to_attach",
            format!("{slow} ms: slow"),
            "failures in the first seconds after a start are not seen",
        ),
        ms => fine("time_to_attach", format!("{ms} ms")),
    };
    let memory = match attached.maps {
        0 => unknown("kernel_memory", "/proc/self/fdinfo does not show it"),
        _ => fine("kernel_memory", memory),
    };
    let maps = match attached.can_read {
        true => fine("maps", "readable"),
        false => stops("maps", "not readable", "counts and events cannot be read"),
    };
    vec![maps, memory, time]
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
        _ if !facts.has_proc => unknown("hidepid", "/proc is not mounted, or cannot be read"),
        (value, true) => costs("hidepid", value, hidepid::COST),
        ("0" | "off", false) => fine("hidepid", "off"),
        (value, false) => fine("hidepid", format!("{value}: not for tracer")),
    };
    let pid_namespace = match facts.is_host_pid_namespace {
        Some(false) => costs("pid_namespace", "a container's", pid_namespace::COST),
        Some(true) => fine("pid_namespace", "the host's"),
        None => unknown("pid_namespace", "/proc/self/ns/pid cannot be read"),
    };
    let time_namespace = match &facts.clock_offsets {
        Err(why) => unknown("time_namespace", why),
        Ok(offsets) if *offsets == Offsets::default() => fine("time_namespace", "no offsets"),
        Ok(offsets) => fine(
            "time_namespace",
            format!(
                "a container's: boottime {:+} s, which tracer takes into account",
                offsets.boottime / 1_000_000_000
            ),
        ),
    };
    vec![
        counters,
        hidepid,
        pid_namespace,
        time_namespace,
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
        (0, 0) if seen.entered == 0 => unknown(
            "network_namespaces",
            "/proc leads to none, not even tracer's own",
        ),
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
        host::{
            plan::{Purpose, Tier},
            privileges::Tried,
        },
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
            degradations: Vec::new(),
            took_ms: 100,
            maps: 20_000_000,
            programs: 100_000,
            can_read: true,
            verified: Ok(Verified {
                time: jiff::Timestamp::UNIX_EPOCH,
                purposes: Vec::new(),
            }),
        }
    }

    /// A machine with nothing to complain about.
    fn healthy() -> Facts {
        Facts {
            kernel: "6.18".into(),
            effective: CapabilitySet::all(),
            tried: Tried::default(),
            security_modules: Ok("lockdown,capability,apparmor".into()),
            lockdown: Ok("[none] integrity confidentiality".into()),
            unprivileged_bpf_disabled: Ok(2),
            btf: Ok(5_000_000),
            tracefs: None,
            tracefs_is_readable: Err("tracefs is not mounted".into()),
            cgroup2: Some("/sys/fs/cgroup".into()),
            attached: Ok(attached(Some(Exactness::Exact))),
            counters: Ok(()),
            hidepid: None,
            hides_processes: false,
            has_proc: true,
            clock_offsets: Ok(Offsets::default()),
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
            let is_unknown = check.level == Level::Unknown;
            assert_eq!(check.cost.is_none(), is_unknown, "{check:?}");
            assert_eq!(
                check.found.starts_with("not known"),
                is_unknown,
                "{check:?}"
            );
        }
        let bad = bad.map(|check| (check.name, check.level)).collect();
        (diagnosis.exit_code, bad)
    }

    #[test]
    fn each_thing_has_its_cost() {
        use Level::{Costs, Stops, Unknown};
        assert_eq!(diagnosed(|_| {}), (0, vec![]));
        type Case = (fn(&mut Facts), u8, &'static [(&'static str, Level)]);
        let table: [Case; 28] = [
            (
                |facts| facts.attached = Ok(attached(Some(Exactness::Near))),
                1,
                &[("syn_drop", Costs)],
            ),
            // As good as it gets.
            (
                |facts| {
                    let mut attached = attached(Some(Exactness::Near));
                    attached.served[0].reason = None;
                    facts.attached = Ok(attached);
                },
                0,
                &[],
            ),
            (
                |facts| facts.attached = Ok(attached(None)),
                1,
                &[("syn_drop", Costs)],
            ),
            (
                |facts| facts.effective.remove(CapabilitySet::SYS_ADMIN),
                1,
                &[("CAP_SYS_ADMIN", Costs)],
            ),
            (
                |facts| {
                    facts.effective.remove(CapabilitySet::SYS_ADMIN);
                    facts.tried.enters_namespaces = Some(true);
                },
                0,
                &[],
            ),
            // What is attached is not missing.
            (
                |facts| facts.effective.remove(CapabilitySet::NET_ADMIN),
                0,
                &[],
            ),
            (
                |facts| {
                    facts.effective.remove(CapabilitySet::NET_ADMIN);
                    if let Ok(attached) = &mut facts.attached {
                        attached.served[0].by = None;
                        attached.served[0].reason = Some("portable: cgroup_skb ingress".into());
                    }
                },
                1,
                &[("CAP_NET_ADMIN", Costs), ("syn_drop", Costs)],
            ),
            (
                |facts| {
                    if let Ok(attached) = &mut facts.attached {
                        let said = format!("{MOUNTING_FAILED}: Operation not permitted");
                        attached.degradations.push(said);
                    }
                },
                1,
                &[("tracefs", Costs)],
            ),
            (
                |facts| {
                    if let Ok(attached) = &mut facts.attached {
                        let why = "portable: /sys/kernel/tracing cannot be read: no";
                        attached.served[0].reason = Some(why.into());
                    }
                },
                1,
                &[("tracefs", Costs)],
            ),
            (
                |facts| {
                    facts.tracefs = Some("/sys/kernel/tracing".into());
                    facts.tracefs_is_readable = Err("Permission denied".into());
                },
                1,
                &[("tracefs", Costs)],
            ),
            (
                |facts| facts.lockdown = Err("securityfs is not mounted".into()),
                0,
                &[("lockdown", Unknown)],
            ),
            (
                |facts| facts.lockdown = Ok("odd".into()),
                0,
                &[("lockdown", Unknown)],
            ),
            (
                |facts| facts.security_modules = Err("Permission denied".into()),
                0,
                &[("security_modules", Unknown)],
            ),
            (
                |facts| facts.unprivileged_bpf_disabled = Err("no".into()),
                0,
                &[("unprivileged_bpf_disabled", Unknown)],
            ),
            (
                |facts| facts.is_host_pid_namespace = None,
                0,
                &[("pid_namespace", Unknown)],
            ),
            (|facts| facts.has_proc = false, 0, &[("hidepid", Unknown)]),
            (
                |facts| facts.namespaces = Namespaces::default(),
                0,
                &[("network_namespaces", Unknown)],
            ),
            (
                |facts| facts.clock_offsets = Err("no".into()),
                0,
                &[("time_namespace", Unknown)],
            ),
            (
                |facts| {
                    if let Ok(attached) = &mut facts.attached {
                        (attached.took_ms, attached.maps) = (6000, 0);
                        attached.can_read = false;
                    }
                },
                1,
                &[
                    ("maps", Stops),
                    ("kernel_memory", Unknown),
                    ("time_to_attach", Costs),
                ],
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
                |facts| facts.lockdown = Ok("none [confidentiality]".into()),
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

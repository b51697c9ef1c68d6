//! From the command line to attached programs, and what to say about it.

use std::fs;

use jiff::Timestamp;

use crate::{
    cli::Run,
    exit::Failed,
    explain::closers,
    host::{
        attempt, btf,
        clock::{self, Clocks},
        facts::Facts,
        hidepid, memory, mountinfo,
        mounts::PrivateView,
        netns, pid_namespace, plan,
        plan::{Choice, Purpose},
        privileges::{self, Privileges},
        reduce,
        settings::{self, Settings},
    },
    probe::{Probe, Served},
    snapshot::{self, Listening},
};

/// How the sentence begins that says so.
pub(crate) const MOUNTING_FAILED: &str =
    "tracefs or cgroup2 is not mounted, and mounting it failed";

/// What a `startup` record tells.
#[derive(Clone, Debug)]
pub(crate) struct Startup {
    pub(crate) time: Timestamp,
    pub(crate) kernel: String,
    pub(crate) boot_id: String,
    pub(crate) host: String,
    pub(crate) served: Vec<Served>,
    /// What this kernel and these privileges cannot give, as sentences.
    pub(crate) degradations: Vec<String>,
    /// What the filter asks for and nothing on this host is, as sentences.
    pub(crate) unmatched: Vec<String>,
    /// Of one moment, so that times of the kernel can be compared.
    pub(crate) clocks: Clocks,
    /// The network namespace that tracer runs in, and its settings.
    pub(crate) netns: Option<u32>,
    pub(crate) settings: Settings,
    /// Who listened; `None`: not looked for.
    pub(crate) listening: Option<Listening>,
}

impl Startup {
    /// Adds who listens: explanations need it later, and it takes a look at every
    /// process.
    pub(crate) fn look_around(&mut self) {
        self.listening = snapshot::listening().ok();
    }
}

/// Checks privileges.
///
/// # Errors
/// Some are missing.
pub(crate) fn permitted() -> Result<Privileges, Failed> {
    let effective = reduce::effective();
    let privileges = privileges::judge(effective, &attempt::privileges(effective));
    if !privileges.missing.is_empty() {
        return Err(Failed::NotPermitted(format!(
            "not permitted: {} missing; run it as root (sudo) or grant them",
            privileges.missing.join(" and ")
        )));
    }
    Ok(privileges)
}

/// Makes a plan, loads and attaches.
///
/// # Errors
/// No BTF, or nothing attaches.
pub(crate) fn attach(arguments: &Run, privileges: Privileges) -> Result<(Probe, Startup), Failed> {
    let mut costs = privileges.costs;
    // Held until everything is attached; the hooks do not need it any more.
    let _view = PrivateView::with_missing_mounts(&mountinfo::read()).unwrap_or_else(|error| {
        costs.push(format!("{MOUNTING_FAILED}: {error}"));
        None
    });
    if pid_namespace::is_hosts() == Some(false) {
        costs.push(pid_namespace::COST.to_owned());
    }
    if let Err(error) = clock::read_offsets() {
        costs.push(format!(
            "whether this is a time namespace of its own is not known ({error}): if it is, events are dated wrongly"
        ));
    }
    if hidepid::hides() {
        costs.push(hidepid::COST.to_owned());
    }
    let facts = facts()?;
    let mut plan = plan::plan(&facts, arguments.hooks);
    if arguments.no_closers {
        plan = plan.without(Purpose::Closer);
    }
    if !plan.missing_members.is_empty() {
        let missing = plan.missing_members.join(", ");
        return Err(Failed::Unsupported(format!(
            "this kernel's BTF lacks {missing}"
        )));
    }
    let mut filter = arguments.filter.in_kernel();
    if arguments.is_about_command() {
        match pid_namespace::is_hosts() {
            Some(false) => costs.push(pid_namespace::COST_OF_COMMAND.to_owned()),
            _ => filter.ancestor = std::process::id(),
        }
    }
    let mut probe = Probe::load(&facts.config, &filter, arguments.verbose).map_err(refused)?;
    closers::provide(&mut probe)?;
    probe.attach(&plan, &facts)?;
    #[cfg(feature = "fault")]
    for purpose in &arguments.break_hook {
        probe.break_hook(*purpose);
    }
    if !probe.sees_anything() {
        return Err(nothing_attached(&probe.served, arguments.hooks));
    }
    memory::give_back();
    let startup = Startup {
        time: Timestamp::now(),
        kernel: read_line("/proc/sys/kernel/osrelease"),
        boot_id: read_line("/proc/sys/kernel/random/boot_id"),
        host: read_line("/proc/sys/kernel/hostname"),
        degradations: degradations(&probe.served, costs),
        unmatched: Vec::new(),
        served: probe.served.clone(),
        clocks: clock::now(),
        netns: netns::of_process(std::process::id()),
        settings: settings::read(),
        listening: None,
    };
    Ok((probe, startup))
}

fn facts() -> Result<Facts, Failed> {
    let types = fs::read(btf::PATH).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failed::NotPermitted(format!("not permitted: {} ({error})", btf::PATH))
        }
        _ => Failed::Unsupported(format!(
            "no BTF: {} ({error}); tracer needs a kernel built with CONFIG_DEBUG_INFO_BTF=y",
            btf::PATH
        )),
    })?;
    let facts =
        Facts::from_btf(&types).map_err(|error| Failed::Unsupported(format!("{error:#}")))?;
    Ok(facts.with_tick().with_mounts(&mountinfo::read()))
}

/// The kernel refused the maps: by permission or for another reason.
fn refused(error: anyhow::Error) -> Failed {
    let not_permitted = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
    });
    if not_permitted {
        Failed::NotPermitted(format!(
            "not permitted: {error:#}; is bpf(2) blocked by seccomp, or by a security module?"
        ))
    } else {
        Failed::Running(error)
    }
}

fn nothing_attached(served: &[Served], choice: Choice) -> Failed {
    let lockdown = read_line("/sys/kernel/security/lockdown");
    if lockdown.contains("[confidentiality]") {
        return Failed::NotPermitted(
            "not permitted: kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory".into(),
        );
    }
    // One cause may stand behind another, such as too few file descriptors.
    let mut reasons: Vec<&str> = served
        .iter()
        .filter_map(|it| it.reason.as_deref())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    // What lockdown does; its state is not to be seen where securityfs is not mounted.
    let are_about_reading = reasons.iter().all(|it| it.contains("bpf_probe_read"));
    if are_about_reading && !reasons.is_empty() {
        return Failed::NotPermitted(
            "not permitted: the kernel lets BPF programs read no kernel memory, as lockdown does in confidentiality mode".into(),
        );
    }
    let why = reasons.join("\n  ");
    Failed::Unsupported(match choice {
        Choice::Auto => format!("this kernel refuses every hook:\n  {why}"),
        _ => {
            format!("this kernel refuses every hook of the chosen tier; try --hooks auto:\n  {why}")
        }
    })
}

/// Every loss and every inexactness, each said once.
fn degradations(served: &[Served], mut sentences: Vec<String>) -> Vec<String> {
    for served in served {
        if served.by.is_none() {
            let why = served
                .reason
                .as_deref()
                .unwrap_or("no hook for it in this tier");
            sentences.push(format!("{} ({why})", served.purpose.loss()));
        }
    }
    let mut noted: Vec<&str> = Vec::new();
    for note in served.iter().filter_map(|served| served.by.as_ref()?.note) {
        if noted.contains(&note) {
            continue;
        }
        noted.push(note);
        let about: Vec<_> = served
            .iter()
            .filter(|served| served.by.as_ref().is_some_and(|by| by.note == Some(note)))
            .map(|served| served.purpose.name())
            .collect();
        sentences.push(format!("{}: {note}", about.join(", ")));
    }
    sentences
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

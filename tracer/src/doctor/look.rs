//! What this machine is like, as far as tracer cares. Probed; nothing is judged here.

use std::{fs, path::PathBuf, time::Instant};

use rustix::thread::CapabilitySet;

use crate::{
    attribute::namespaces,
    cli::Run,
    exit::Failed,
    explain::{finding::BoundUnused, snapshot},
    host::{
        attempt, btf,
        clock::{self, Offsets},
        hidepid, mountinfo, mounts, netns, pid_namespace,
        privileges::Tried,
        reduce,
    },
    probe::{Probe, Served},
    record::Verified,
    startup,
    verify::{self, Prepared},
};

/// Everything a diagnosis is made from.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kernel: String,
    pub(super) effective: CapabilitySet,
    /// What was tried that capabilities are for.
    pub(super) tried: Tried,
    /// The mode of kernel lockdown, or why it is not known.
    pub(super) lockdown: Result<String, String>,
    /// The security modules that are active, or why they are not known.
    pub(super) security_modules: Result<String, String>,
    /// `kernel.unprivileged_bpf_disabled`, or why it is not known.
    pub(super) unprivileged_bpf_disabled: Result<u32, String>,
    /// The size of the kernel's BTF in bytes, or why it cannot be read.
    pub(super) btf: Result<u64, String>,
    /// Where they are mounted.
    pub(super) tracefs: Option<PathBuf>,
    /// Whether it may be read, or why not.
    pub(super) tracefs_is_readable: Result<(), String>,
    pub(super) cgroup2: Option<PathBuf>,
    pub(super) attached: Result<Attached, Refused>,
    /// Whether the kernel's own counters can be read, or why not.
    pub(super) counters: Result<(), String>,
    /// The `hidepid` option of /proc.
    pub(super) hidepid: Option<String>,
    /// Whether that hides other users' processes from tracer.
    pub(super) hides_processes: bool,
    /// Whether there is a /proc to ask for all this.
    pub(super) has_proc: bool,
    /// How far the clocks of this time namespace are ahead, or why that is not known.
    pub(super) clock_offsets: Result<Offsets, String>,
    /// Whether this is the host's pid namespace.
    pub(super) is_host_pid_namespace: Option<bool>,
    pub(super) namespaces: Namespaces,
    /// How bound, unused sockets are found.
    pub(super) bound_unused: BoundUnused,
}

/// What attaching gave. It has been detached again.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) served: Vec<Served>,
    /// What `watch` would say is lost.
    pub(super) degradations: Vec<String>,
    pub(super) took_ms: u64,
    /// Memory of the kernel's, bytes: of maps and of programs.
    pub(super) maps: u64,
    pub(super) programs: u64,
    /// Whether maps can still be read with the privileges that are kept.
    pub(super) can_read: bool,
    /// Whether the hooks see what they should, or why that is not known.
    pub(super) verified: Result<Verified, String>,
}

/// Nothing could be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) exit_code: u8,
}

/// The network namespaces that processes or names lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespaces {
    pub(super) entered: usize,
    pub(super) refused: usize,
    /// Processes whose namespace cannot be told.
    pub(super) untold: usize,
}

/// Looks at everything. Loads and attaches for real, and detaches.
pub(super) fn look() -> Facts {
    let mountinfo = mountinfo::read();
    let mounted = |kind| mountinfo::mount_of(&mountinfo, kind);
    Facts {
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        effective: reduce::effective(),
        tried: attempt::privileges(reduce::effective()),
        lockdown: of_securityfs("/sys/kernel/security/lockdown"),
        security_modules: of_securityfs("/sys/kernel/security/lsm"),
        unprivileged_bpf_disabled: line("/proc/sys/kernel/unprivileged_bpf_disabled").and_then(
            |number| {
                number
                    .parse()
                    .map_err(|_| format!("{number} is not a number"))
            },
        ),
        // Opened, too: its size can be seen by who may not read it.
        btf: fs::File::open(btf::PATH)
            .and_then(|file| file.metadata())
            .map(|metadata| metadata.len())
            .map_err(|error| error.to_string()),
        tracefs: mounted("tracefs"),
        tracefs_is_readable: mounts::tracefs_is_readable().map_err(|error| error.to_string()),
        cgroup2: mounted("cgroup2"),
        attached: attach(),
        counters: namespaces::here()
            .map(|_| ())
            .map_err(|error| error.to_string()),
        hidepid: mountinfo::hidepid(&mountinfo),
        hides_processes: hidepid::hides(),
        has_proc: fs::read("/proc/self/stat").is_ok(),
        clock_offsets: clock::read_offsets().map_err(|error| error.to_string()),
        is_host_pid_namespace: pid_namespace::is_hosts(),
        namespaces: reach(),
        bound_unused: snapshot::unlisted([]).0,
    }
}

/// The text of a file, or why it is not known.
fn line(path: &str) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{path} does not exist"))
        }
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// The same for a file system that need not be mounted.
fn of_securityfs(path: &str) -> Result<String, String> {
    line(path).map_err(|why| {
        let is_mounted =
            fs::read_dir("/sys/kernel/security").is_ok_and(|mut entries| entries.next().is_some());
        match why.ends_with(" does not exist") && !is_mounted {
            true => "securityfs is not mounted".to_owned(),
            false => why,
        }
    })
}

fn attach() -> Result<Attached, Refused> {
    let begun = Instant::now();
    let attached =
        startup::permitted().and_then(|privileges| startup::attach(&Run::default(), privileges));
    let (mut probe, startup) = attached.map_err(|failed| Refused {
        why: failed.to_string(),
        exit_code: match failed {
            Failed::NotPermitted(_) => 3,
            Failed::Unsupported(_) => 4,
            Failed::Running(_) | Failed::Command(..) => 1,
        },
    })?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (maps, programs) = kernel_memory();
    let can_read = probe.can_read();
    let verified = verify(&mut probe).map_err(|error| format!("{error:#}"));
    Ok(Attached {
        // After a failed verification other hooks may serve a purpose.
        served: probe.served.clone(),
        degradations: startup.degradations,
        took_ms,
        maps,
        programs,
        can_read,
        verified,
    })
}

/// Causes each failure once, as `watch` does at its start.
fn verify(probe: &mut Probe) -> anyhow::Result<Verified> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { verify::alone(probe, Prepared::start()).await })
}

/// What the maps and programs that this process has open take, by
/// /proc/self/fdinfo.
fn kernel_memory() -> (u64, u64) {
    let entries = fs::read_dir("/proc/self/fdinfo").into_iter().flatten();
    let texts = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let (mut maps, mut programs) = (0, 0);
    for text in texts {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let memlock = field("memlock:").and_then(|bytes| bytes.trim().parse::<u64>().ok());
        let sum = if field("map_type:").is_some() {
            &mut maps
        } else {
            &mut programs
        };
        *sum += memlock.unwrap_or(0);
    }
    (maps, programs)
}

fn reach() -> Namespaces {
    let mut namespaces = Namespaces::default();
    for path in netns::all().values() {
        match netns::inside(path, || Ok(())) {
            Ok(()) => namespaces.entered += 1,
            // Gone meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => namespaces.refused += 1,
        }
    }
    let is_untold = |pid: &u32| {
        let link = fs::read_link(format!("/proc/{pid}/ns/net"));
        link.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    namespaces.untold = netns::pids().filter(is_untold).count();
    namespaces
}

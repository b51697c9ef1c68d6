//! The kernel's own listen-queue counters of every network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{names::Names, pace::Pace, process};
use crate::host::netns;

/// Counters of `TcpExt` in /proc/net/netstat, since the namespace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Netstat {
    /// Segments that found the accept queue full.
    pub(crate) listen_overflows: u64,
    /// Segments that a listener dropped, for any reason.
    pub(crate) listen_drops: u64,
    /// SYNs dropped because the request queue was full and syncookies are off.
    pub(crate) req_qfull_drop: u64,
}

impl Netstat {
    /// What came since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows.wrapping_sub(earlier.listen_overflows),
            listen_drops: self.listen_drops.wrapping_sub(earlier.listen_drops),
            req_qfull_drop: self.req_qfull_drop.wrapping_sub(earlier.req_qfull_drop),
        }
    }
}

/// What the kernel's numbers of a namespace are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Read just now, and compared with a reading at tracer's start.
    Current,
    /// The last ones before the namespace went away.
    Old,
    /// First seen after tracer started, so counted from zero: right if it was
    /// made since, too many if it only had no processes before.
    Late,
}

struct Namespace {
    /// Of any process inside; it shows the namespace it was opened in even
    /// after that process is gone. `None`: let go.
    netstat: Option<File>,
    baseline: Netstat,
    last: Netstat,
    is_late: bool,
    /// What people call it, and the process whose container that name is of.
    name: Option<Arc<str>>,
    named_by: Option<u32>,
}

impl Namespace {
    fn standing(&self) -> Standing {
        match (&self.netstat, self.is_late) {
            (None, _) => Standing::Old,
            (Some(_), true) => Standing::Late,
            (Some(_), false) => Standing::Current,
        }
    }
}

/// Follows the namespaces that processes are in.
pub(crate) struct Namespaces {
    known: BTreeMap<u32, Namespace>,
    pace: Pace,
    /// Namespaces that were asked for in vain since the last look.
    sought: BTreeSet<u32>,
    /// Of containers.
    names: Names,
}

impl Namespaces {
    /// Takes the baseline of every namespace that exists now.
    pub(crate) fn new() -> Self {
        let mut namespaces = Self {
            known: BTreeMap::new(),
            pace: Pace::new(),
            sought: BTreeSet::new(),
            names: Names::new(),
        };
        let mut existing = namespaces.pace.measure(inhabited);
        let named = netns::named();
        for (inum, path) in &named {
            existing.entry(*inum).or_insert_with(|| Inside::open(path));
        }
        let inside = existing
            .iter()
            .map(|(inum, inside)| (*inum, inside.pid))
            .collect();
        for (inum, Inside { netstat, .. }) in existing {
            let now = netstat
                .as_ref()
                .ok()
                .and_then(|file| read(file).ok())
                .unwrap_or_default();
            let namespace = Namespace {
                netstat: netstat.ok(),
                baseline: now,
                last: now,
                is_late: false,
                name: None,
                named_by: None,
            };
            namespaces.known.insert(inum, namespace);
        }
        namespaces.give_names(&named, &inside);
        namespaces
    }

    /// An event came from this namespace: if it is new, it is looked for while
    /// its processes are still there.
    pub(crate) fn notice(&mut self, inum: u32) {
        if !self.known.contains_key(&inum) && self.sought.insert(inum) {
            self.refresh();
        }
    }

    /// [`Namespaces::refresh`], if that is due.
    pub(crate) fn refresh_when_due(&mut self) {
        if self.pace.is_due() {
            self.sought.clear();
            self.refresh();
        }
    }

    /// Looks for new namespaces, reads all, and lets go of those that nothing
    /// else keeps: an open file would keep them, and their devices, alive.
    pub(crate) fn refresh(&mut self) {
        let mut inhabited = self.pace.measure(inhabited);
        let named = netns::named();
        for (inum, path) in &named {
            if !inhabited.contains_key(inum) && !self.known.contains_key(inum) {
                inhabited.insert(*inum, Inside::open(path));
            }
        }
        let inside = inhabited
            .iter()
            .map(|(inum, inside)| (*inum, inside.pid))
            .collect();
        for (inum, namespace) in &mut self.known {
            let found = inhabited.remove(inum);
            if namespace.netstat.is_none()
                && let Some(Inside {
                    netstat: Ok(file), ..
                }) = &found
            {
                namespace.netstat = file.try_clone().ok();
            }
            if let Some(now) = namespace.netstat.as_ref().and_then(|file| read(file).ok()) {
                namespace.last = now;
            }
            if found.is_none() && !named.contains_key(inum) {
                namespace.netstat = None;
            }
        }
        for (inum, Inside { netstat, .. }) in inhabited {
            // Made after tracer started: its counters began at zero.
            let last = netstat
                .as_ref()
                .ok()
                .and_then(|file| read(file).ok())
                .unwrap_or_default();
            let baseline = Netstat::default();
            self.known.insert(
                inum,
                Namespace {
                    netstat: netstat.ok(),
                    baseline,
                    last,
                    is_late: true,
                    name: None,
                    named_by: None,
                },
            );
        }
        self.give_names(&named, &inside);
    }

    /// What people call a namespace: its name in /run/netns, else the pod's or the
    /// container's whose processes are in it, else Docker's.
    pub(crate) fn name(&self, inum: u32) -> Option<Arc<str>> {
        self.known.get(&inum)?.name.clone()
    }

    /// Every one that is known, with its name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, Option<&str>)> {
        let known = self.known.iter();
        known.map(|(inum, namespace)| (*inum, namespace.name.as_deref()))
    }

    /// The same for all that have one.
    pub(crate) fn names(&self) -> BTreeMap<u32, Arc<str>> {
        let named = self.known.iter();
        named
            .filter_map(|(inum, namespace)| Some((*inum, namespace.name.clone()?)))
            .collect()
    }

    /// `inside`: a process in each.
    fn give_names(&mut self, named: &BTreeMap<u32, PathBuf>, inside: &BTreeMap<u32, Option<u32>>) {
        // Containers may use the host's: it is not theirs.
        let host = netns::of_process(1);
        let docker = netns::named_by_docker();
        let text = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().as_ref().into());
        for (inum, namespace) in &mut self.known {
            if let Some(path) = named.get(inum) {
                namespace.name = text(path);
                continue;
            }
            let pid = inside.get(inum).copied().flatten();
            let Some(pid) = pid.filter(|_| host != Some(*inum)) else {
                continue;
            };
            if namespace.named_by != Some(pid) {
                let name = container_of(pid, &mut self.names);
                namespace.name = name.or_else(|| docker.get(inum).and_then(text));
                namespace.named_by = Some(pid);
            }
        }
    }

    /// Reads the namespaces that are known, and nothing else: quick enough to
    /// stand beside a reading of tracer's own counters.
    pub(crate) fn read_again(&mut self) {
        for namespace in self.known.values_mut() {
            if let Some(now) = namespace.netstat.as_ref().and_then(|file| read(file).ok()) {
                namespace.last = now;
            }
        }
    }

    /// Counting starts at the last reading.
    pub(crate) fn start_here(&mut self) {
        for namespace in self.known.values_mut() {
            namespace.baseline = namespace.last;
        }
    }

    /// What the kernel counted in each namespace since the baseline, and what
    /// that is worth.
    pub(crate) fn deltas(&self) -> BTreeMap<u32, (Netstat, Standing)> {
        self.known
            .iter()
            .map(|(inum, namespace)| {
                let delta = namespace.last.since(namespace.baseline);
                (*inum, (delta, namespace.standing()))
            })
            .collect()
    }
}

/// A namespace as it was found.
struct Inside {
    /// A process in it, if one is.
    pid: Option<u32>,
    netstat: io::Result<File>,
}

impl Inside {
    /// Opens the counters of a namespace that no process is in.
    fn open(namespace: &Path) -> Self {
        let open = || File::open("/proc/thread-self/net/netstat");
        Self {
            pid: None,
            netstat: netns::inside(namespace, open),
        }
    }
}

/// The name of the pod or the container that a process is in.
fn container_of(pid: u32, names: &mut Names) -> Option<Arc<str>> {
    let mut place = process::place(pid)?;
    names.add(&mut place);
    let pod = place.pod.and_then(|pod| pod.name);
    let container = || Some(place.container?.label().to_owned());
    pod.or_else(container).map(Arc::from)
}

/// Every namespace that a process is in, with its counters.
fn inhabited() -> BTreeMap<u32, Inside> {
    let mut found = BTreeMap::new();
    for pid in netns::pids() {
        let Some(inum) = netns::of_process(pid) else {
            continue;
        };
        let open = || File::open(format!("/proc/{pid}/net/netstat"));
        let open = || Inside {
            pid: Some(pid),
            netstat: open(),
        };
        let entry = found.entry(inum).or_insert_with(open);
        if entry.netstat.is_err() {
            // The process went away in between: ask the next one.
            *entry = open();
        }
    }
    found
}

/// The counters of the namespace of the calling thread.
pub(crate) fn here() -> io::Result<Netstat> {
    read(&File::open("/proc/thread-self/net/netstat")?)
}

/// The counters in an open file.
pub(crate) fn read(netstat: &File) -> io::Result<Netstat> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let got = netstat.read_at(&mut chunk, text.len() as u64)?;
        if got == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..got]);
    }
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| io::Error::other("no TcpExt counters"))
}

/// /proc/net/netstat: a line of names, then a line of values, per group.
pub(crate) fn parse(text: &str) -> Option<Netstat> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut netstat = Netstat::default();
    for (name, value) in names.split(' ').zip(values.split(' ')) {
        let counter = match name {
            "ListenOverflows" => &mut netstat.listen_overflows,
            "ListenDrops" => &mut netstat.listen_drops,
            "TCPReqQFullDrop" => &mut netstat.req_qfull_drop,
            _ => continue,
        };
        *counter = value.parse().ok()?;
    }
    Some(netstat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_by_name() {
        let text = "TcpExt: A ListenOverflows B ListenDrops TCPReqQFullDrop\nTcpExt: 1 2 3 4 5\nIpExt: x\nIpExt: 9\n";
        let expected = Netstat {
            listen_overflows: 2,
            listen_drops: 4,
            req_qfull_drop: 5,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("TcpExt: ListenDrops\n"), None);
        assert_eq!(parse("TcpExt: ListenDrops\nTcpExt: x\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_namespace_is_found_and_readable() {
        let mut namespaces = Namespaces::new();
        let own = netns::of_process(std::process::id()).unwrap_or(0);
        assert!(namespaces.deltas().contains_key(&own));
        namespaces.refresh();
        assert!(
            namespaces
                .deltas()
                .get(&own)
                .is_some_and(|(_, standing)| *standing == Standing::Current)
        );
    }
}

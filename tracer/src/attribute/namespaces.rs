//! The kernel's own listen-queue counters of every network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::pace::Pace;
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
}

impl Namespaces {
    /// Takes the baseline of every namespace that exists now.
    pub(crate) fn new() -> Self {
        let mut namespaces = Self {
            known: BTreeMap::new(),
            pace: Pace::new(),
            sought: BTreeSet::new(),
        };
        let mut existing = namespaces.pace.measure(inhabited);
        for (inum, path) in netns::named() {
            existing.entry(inum).or_insert_with(|| open_inside(&path));
        }
        for (inum, netstat) in existing {
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
            };
            namespaces.known.insert(inum, namespace);
        }
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
                inhabited.insert(*inum, open_inside(path));
            }
        }
        for (inum, namespace) in &mut self.known {
            let found = inhabited.remove(inum);
            if namespace.netstat.is_none()
                && let Some(Ok(file)) = &found
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
        for (inum, netstat) in inhabited {
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
                },
            );
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

/// Every namespace that a process is in, with its counters.
fn inhabited() -> BTreeMap<u32, io::Result<File>> {
    let mut found = BTreeMap::new();
    for pid in netns::pids() {
        let Some(inum) = netns::of_process(pid) else {
            continue;
        };
        let open = || File::open(format!("/proc/{pid}/net/netstat"));
        let entry = found.entry(inum).or_insert_with(open);
        if entry.is_err() {
            // The process went away in between: ask the next one.
            *entry = open();
        }
    }
    found
}

/// Opens the counters of a namespace that no process is in.
fn open_inside(namespace: &Path) -> io::Result<File> {
    netns::inside(namespace, || File::open("/proc/thread-self/net/netstat"))
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
fn parse(text: &str) -> Option<Netstat> {
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

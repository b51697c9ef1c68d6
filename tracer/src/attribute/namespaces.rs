//! The kernel's own listen-queue counters of every network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{names::Names, pace::Pace, process};
use crate::{host::netns, model::Netns};

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
    /// What came since `earlier`; `None`: a counter is lower than it was.
    pub(crate) fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            listen_overflows: self
                .listen_overflows
                .checked_sub(earlier.listen_overflows)?,
            listen_drops: self.listen_drops.checked_sub(earlier.listen_drops)?,
            req_qfull_drop: self.req_qfull_drop.checked_sub(earlier.req_qfull_drop)?,
        })
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
    /// Not read, because tracer may not: what was read last, perhaps long ago.
    Unread,
    /// A counter is lower than it was before: it says nothing.
    Backwards,
}

/// How to look into a namespace. Nothing of it is kept open: an open file would keep a
/// namespace alive that everybody else has left, with its devices and their names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// A process that is in it, and when that started.
    Process(u32, Option<u64>),
    /// A file that it is mounted on, and when that file was made: another namespace that
    /// is mounted there later has another time.
    Name(PathBuf, Made),
}

/// Inode number and time of change of a file in nsfs, nanoseconds.
type Made = (u64, i64, i64);

struct Namespace {
    /// `None`: it is gone, as far as can be seen.
    way: Option<Way>,
    baseline: Netstat,
    last: Netstat,
    is_late: bool,
    /// The last reading failed.
    is_unread: bool,
    /// What people call it, and the process whose container that name is of.
    name: Option<Arc<str>>,
    named_by: Option<u32>,
}

impl Namespace {
    fn found(way: Option<Way>, now: Netstat, is_late: bool) -> Self {
        Self {
            way,
            // One that was made after tracer started began to count at zero.
            baseline: if is_late { Netstat::default() } else { now },
            last: now,
            is_late,
            is_unread: false,
            name: None,
            named_by: None,
        }
    }

    fn standing(&self) -> Standing {
        match (&self.way, self.is_late) {
            _ if self.last.since(self.baseline).is_none() => Standing::Backwards,
            (None, _) => Standing::Old,
            (Some(_), _) if self.is_unread => Standing::Unread,
            (Some(_), true) => Standing::Late,
            (Some(_), false) => Standing::Current,
        }
    }
}

/// Follows the namespaces that processes are in or that have a name.
pub(crate) struct Namespaces {
    known: BTreeMap<Netns, Namespace>,
    /// The namespace that has an inode number now.
    current: BTreeMap<u32, Netns>,
    pace: Pace,
    /// Namespaces that were asked for in vain since the last look.
    sought: BTreeSet<Netns>,
    /// Of containers.
    names: Names,
    /// Whether the kernel tells the cookie of a namespace (since 5.14). Else namespaces
    /// have the cookie 0 here until an event tells another.
    has_cookies: bool,
}

impl Namespaces {
    /// Takes the baseline of every namespace that exists now.
    pub(crate) fn new() -> Self {
        let mut namespaces = Self {
            known: BTreeMap::new(),
            current: BTreeMap::new(),
            pace: Pace::new(),
            sought: BTreeSet::new(),
            names: Names::new(),
            has_cookies: netns::cookie_here() != 0,
        };
        namespaces.look(false);
        namespaces
    }

    /// An event came from this namespace: if it is new, it is looked for while
    /// it is still there.
    pub(crate) fn notice(&mut self, netns: Netns) {
        if self.known.contains_key(&netns) || netns.inum == 0 {
            return;
        }
        if self.recognise(netns) || !self.sought.insert(netns) {
            return;
        }
        // Names first: they are few, and a namespace may live for some milliseconds only.
        let named = netns::named();
        if let Some(path) = named.get(&netns.inum)
            && self.visit_name(netns.inum, path, Some(netns))
        {
            self.give_names(&named, &BTreeMap::new());
            return;
        }
        if let Some(before) = self.current.get(&netns.inum).copied() {
            // Another one had this number.
            self.let_go(before);
        }
        self.refresh();
        self.recognise(netns);
    }

    /// Where the kernel tells no cookie, the first event of a namespace tells which one it
    /// is. Whether it did.
    fn recognise(&mut self, netns: Netns) -> bool {
        let unknown = Netns::of_inode(netns.inum);
        if self.has_cookies || self.current.get(&netns.inum) != Some(&unknown) {
            return false;
        }
        let Some(namespace) = self.known.remove(&unknown) else {
            return false;
        };
        self.known.insert(netns, namespace);
        self.current.insert(netns.inum, netns);
        true
    }

    /// [`Namespaces::refresh`], if that is due.
    pub(crate) fn refresh_when_due(&mut self) {
        if self.pace.is_due() {
            self.sought.clear();
            self.refresh();
        }
    }

    /// Looks for new namespaces, and reads all.
    pub(crate) fn refresh(&mut self) {
        self.look(true);
    }

    fn look(&mut self, is_late: bool) {
        let inside = self.pace.measure(netns::first_inside);
        let named = netns::named();
        for netns in self.known.keys().copied().collect::<Vec<_>>() {
            if !self.is_there(netns, &inside, &named) {
                self.let_go(netns);
            }
        }
        for (inum, pid) in &inside {
            if !self.current.contains_key(inum) {
                self.visit_process(*inum, *pid, is_late);
            }
        }
        for (inum, path) in &named {
            if !self.current.contains_key(inum) {
                self.visit(*inum, path, None, is_late);
            }
        }
        self.read_again();
        self.give_names(&named, &inside);
    }

    /// Whether the way to a namespace still leads there; another one may be taken.
    fn is_there(
        &mut self,
        netns: Netns,
        inside: &BTreeMap<u32, u32>,
        named: &BTreeMap<u32, PathBuf>,
    ) -> bool {
        if self.current.get(&netns.inum) != Some(&netns) {
            return false;
        }
        let Some(namespace) = self.known.get_mut(&netns) else {
            return false;
        };
        let is_valid = namespace
            .way
            .as_ref()
            .is_some_and(|way| way.is_valid(netns.inum));
        let made = |path: &PathBuf| Some(Way::Name(path.clone(), made(path)?));
        let process = inside.get(&netns.inum).copied();
        // While one of them is there, the number is not given out again. Where the kernel
        // tells no cookie, it is taken for the same one as long as nothing shows another.
        let other = match &namespace.way {
            _ if !is_valid && self.has_cookies => None,
            _ if !is_valid => {
                let name = named.get(&netns.inum).and_then(made);
                name.or_else(|| process.map(Way::process))
            }
            Some(Way::Process(pid, _)) if process.is_some_and(|process| process != *pid) => {
                let name = named.get(&netns.inum).and_then(made);
                name.or_else(|| process.map(Way::process))
            }
            _ => None,
        };
        let is_there = is_valid || other.is_some();
        if other.is_some() {
            namespace.way = other;
        }
        is_there
    }

    /// It is gone, or another one has its number.
    fn let_go(&mut self, netns: Netns) {
        if let Some(namespace) = self.known.get_mut(&netns) {
            namespace.way = None;
        }
        if self.current.get(&netns.inum) == Some(&netns) {
            self.current.remove(&netns.inum);
        }
        self.forget();
    }

    /// Those that are gone are many on a host that makes one for each job: the oldest
    /// half of too many is forgotten, and with them what the kernel counted there.
    fn forget(&mut self) {
        let gone = self.known.iter().filter(|(_, it)| it.way.is_none());
        let gone: Vec<Netns> = gone.map(|(netns, _)| *netns).collect();
        if gone.len() > GONE {
            for netns in &gone[..GONE / 2] {
                self.known.remove(netns);
            }
        }
    }

    fn visit_process(&mut self, inum: u32, pid: u32, is_late: bool) {
        let way = Way::process(pid);
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let seen = netns::inside(&path, || Ok((netns::cookie_here(), here()?)));
        let (cookie, now) = match seen {
            Ok(seen) => seen,
            // It may not be entered, but perhaps be read.
            Err(_) if way.is_valid(inum) => (0, read_of(pid).unwrap_or_default()),
            Err(_) => return,
        };
        self.add(Netns { inum, cookie }, Some(way), now, is_late);
    }

    fn visit_name(&mut self, inum: u32, path: &Path, wanted: Option<Netns>) -> bool {
        self.visit(inum, path, wanted, true)
    }

    /// Looks at the namespace that is mounted on a file; whether it is the one that is
    /// `wanted`.
    fn visit(&mut self, inum: u32, path: &Path, wanted: Option<Netns>, is_late: bool) -> bool {
        let Some(made) = made(path) else { return false };
        let seen = netns::inside(path, || Ok((netns::cookie_here(), here()?)));
        let Ok((cookie, now)) = seen else {
            return false;
        };
        let mut netns = Netns { inum, cookie };
        if let Some(wanted) = wanted {
            if self.has_cookies && wanted != netns {
                return false;
            }
            netns = wanted;
        }
        if let Some(before) = self.current.get(&inum).copied().filter(|it| *it != netns) {
            self.let_go(before);
        }
        self.add(netns, Some(Way::Name(path.to_owned(), made)), now, is_late);
        true
    }

    fn add(&mut self, netns: Netns, way: Option<Way>, now: Netstat, is_late: bool) {
        let found = Namespace::found(way, now, is_late);
        match self.known.get_mut(&netns) {
            // Lost sight of for a while.
            Some(known) => {
                known.way = found.way;
                known.last = now;
            }
            None => {
                self.known.insert(netns, found);
            }
        }
        self.current.insert(netns.inum, netns);
    }

    /// What people call a namespace: its name in /run/netns, else the pod's or the
    /// container's whose processes are in it, else Docker's.
    pub(crate) fn name(&self, netns: Netns) -> Option<Arc<str>> {
        self.known.get(&netns)?.name.clone()
    }

    /// The namespace that has this inode number now.
    #[cfg(test)]
    fn current(&self, inum: u32) -> Netns {
        let now = self.current.get(&inum).copied();
        now.unwrap_or(Netns::of_inode(inum))
    }

    /// Every one that is known, with its name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, Option<&str>)> {
        let known = self.known.iter().filter(|(_, it)| it.way.is_some());
        known.map(|(netns, namespace)| (netns.inum, namespace.name.as_deref()))
    }

    /// The same for all that have one.
    pub(crate) fn names(&self) -> BTreeMap<Netns, Arc<str>> {
        let named = self.known.iter();
        named
            .filter_map(|(netns, namespace)| Some((*netns, namespace.name.clone()?)))
            .collect()
    }

    /// `inside`: a process in each.
    fn give_names(&mut self, named: &BTreeMap<u32, PathBuf>, inside: &BTreeMap<u32, u32>) {
        // Containers may use the host's: it is not theirs.
        let host = netns::of_process(1);
        let docker = netns::named_by_docker();
        let text = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().as_ref().into());
        for (inum, netns) in &self.current {
            let Some(namespace) = self.known.get_mut(netns) else {
                continue;
            };
            if let Some(path) = named.get(inum) {
                // A name can be given anew while this was looked at.
                let is_it = match &namespace.way {
                    Some(Way::Name(way, made)) => {
                        way != path || self::made(path).as_ref() == Some(made)
                    }
                    _ => true,
                };
                if is_it {
                    namespace.name = text(path);
                }
                continue;
            }
            let pid = inside.get(inum).copied();
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
        let mut by_name = Vec::new();
        for (netns, namespace) in &mut self.known {
            match &namespace.way {
                Some(way @ Way::Process(pid, _)) => {
                    let is_valid = way.is_valid(netns.inum);
                    let now = read_of(*pid).ok().filter(|_| is_valid);
                    // One that has ended may leave others there: that is looked at later.
                    namespace.is_unread = is_valid && now.is_none();
                    namespace.last = now.unwrap_or(namespace.last);
                }
                Some(way @ Way::Name(path, _)) if way.is_valid(netns.inum) => {
                    by_name.push((path.clone(), namespace));
                }
                _ => {}
            }
        }
        if by_name.is_empty() {
            return;
        }
        let paths: Vec<&Path> = by_name.iter().map(|(path, _)| path.as_path()).collect();
        let read = netns::inside_each(&paths, || here().ok());
        for ((_, namespace), now) in by_name.into_iter().zip(read) {
            let now = now.flatten();
            namespace.is_unread = now.is_none();
            namespace.last = now.unwrap_or(namespace.last);
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
    pub(crate) fn deltas(&self) -> BTreeMap<Netns, (Netstat, Standing)> {
        self.known
            .iter()
            .map(|(netns, namespace)| {
                let delta = namespace.last.since(namespace.baseline);
                (*netns, (delta.unwrap_or_default(), namespace.standing()))
            })
            .collect()
    }
}

/// Namespaces that are gone and still remembered.
const GONE: usize = 4096;

impl Way {
    fn process(pid: u32) -> Self {
        Self::Process(pid, process::start_ticks(pid))
    }

    /// Whether it leads where it led.
    fn is_valid(&self, inum: u32) -> bool {
        match self {
            Self::Process(pid, start) => {
                start.is_some()
                    && process::start_ticks(*pid) == *start
                    // Without privileges only that it is the same process can be seen.
                    && netns::of_process(*pid).is_none_or(|now| now == inum)
            }
            Self::Name(path, made) => self::made(path).as_ref() == Some(made),
        }
    }
}

/// When the file of a mounted namespace was made.
fn made(path: &Path) -> Option<Made> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// The counters of the namespace that a process is in.
fn read_of(pid: u32) -> io::Result<Netstat> {
    read(&File::open(format!("/proc/{pid}/net/netstat"))?)
}

/// The name of the pod or the container that a process is in.
fn container_of(pid: u32, names: &mut Names) -> Option<Arc<str>> {
    let mut place = process::place(pid)?;
    names.add(&mut place);
    let pod = place.pod.and_then(|pod| pod.name);
    let container = || Some(place.container?.label().to_owned());
    pod.or_else(container).map(Arc::from)
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
    fn counters_that_fall_say_nothing() {
        let counters = |listen_drops| Netstat {
            listen_drops,
            ..Netstat::default()
        };
        assert_eq!(counters(5).since(counters(3)), Some(counters(2)));
        assert_eq!(counters(3).since(counters(5)), None);
        let mut namespace = Namespace::found(Some(Way::process(1)), counters(5), false);
        assert_eq!(namespace.standing(), Standing::Current);
        namespace.last = counters(4);
        assert_eq!(namespace.standing(), Standing::Backwards);
    }

    #[test]
    fn this_namespace_is_found_and_readable() {
        let mut namespaces = Namespaces::new();
        let own = netns::of_process(std::process::id()).unwrap_or(0);
        let own = namespaces.current(own);
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

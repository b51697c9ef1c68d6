//! Which processes hold a socket? /proc/PID/fd tells, for those alive; what was
//! seen before outlives them.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use super::{pace::Pace, process::Processes};
use crate::{
    host::{descriptors, netns::pids},
    model::Process,
};

struct Known {
    /// The holders when they were last seen, also for when they are gone.
    holders: Vec<Process>,
    /// When a drop last made somebody ask.
    asked: Instant,
}

/// A listener that nobody holds or asks for any more is forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Remembers who holds which listener.
pub(crate) struct Holders {
    known: HashMap<u64, Known>,
    pace: Pace,
}

impl Holders {
    /// Notes the holders of every listening TCP socket on the machine.
    pub(crate) fn new(processes: &mut Processes) -> Self {
        let mut holders = Self {
            known: HashMap::new(),
            pace: Pace::new(),
        };
        let inodes = listening_inodes();
        holders.scan(|inode| inodes.contains(&inode), processes);
        holders
    }

    /// The processes that hold the socket with this inode, by pid, pid 1 last;
    /// if none does any more, those that did.
    pub(crate) fn of(&mut self, inode: u64, processes: &mut Processes) -> Vec<Process> {
        if inode == 0 {
            return Vec::new();
        }
        let is_new = !self.known.contains_key(&inode);
        let now = Instant::now();
        let entry = self.known.entry(inode).or_insert(Known {
            holders: Vec::new(),
            asked: now,
        });
        entry.asked = now;
        if is_new || self.pace.is_due() {
            let mut wanted: HashSet<u64> = self.known.keys().copied().collect();
            if is_new {
                // Others may be new, too: a look at all processes for each would take
                // longer than they take to come.
                wanted.extend(listening_inodes());
            }
            self.scan(|candidate| wanted.contains(&candidate), processes);
        }
        self.known
            .get(&inode)
            .map(|known| known.holders.clone())
            .unwrap_or_default()
    }

    /// Looks for the holders of every socket that `wanted` names.
    fn scan(&mut self, wanted: impl Fn(u64) -> bool, processes: &mut Processes) {
        let found = self.pace.measure(|| descriptors::holders(wanted));
        let now = Instant::now();
        self.known.retain(|inode, known| {
            found.contains_key(inode) || now.duration_since(known.asked) < FORGOTTEN
        });
        for (inode, pids) in found {
            let holders = look_up_all(&pids, processes);
            if holders.is_empty() {
                continue;
            }
            let known = self.known.entry(inode);
            known
                .or_insert(Known {
                    holders: Vec::new(),
                    asked: now,
                })
                .holders = holders;
        }
    }
}

fn look_up_all(holders: &[u32], processes: &mut Processes) -> Vec<Process> {
    holders
        .iter()
        .filter_map(|pid| processes.look_up(*pid, None))
        .collect()
}

/// Inodes of the listening TCP sockets of every namespace that a process is in.
fn listening_inodes() -> HashSet<u64> {
    let mut namespaces = HashSet::new();
    let mut inodes = HashSet::new();
    for pid in pids() {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        if !namespaces.insert(namespace) {
            continue;
        }
        for table in ["tcp", "tcp6"] {
            inodes.extend(listeners_in(&format!("/proc/{pid}/net/{table}")));
        }
    }
    inodes
}

/// Reads the listeners from the top of a /proc/net/tcp table: the kernel lists
/// them before every other socket (tcp_seq_start, net/ipv4/tcp_ipv4.c), so a
/// host with many connections costs nothing.
fn listeners_in(table: &str) -> Vec<u64> {
    use std::io::BufRead;
    let Ok(file) = fs::File::open(table) else {
        return Vec::new();
    };
    std::io::BufReader::new(file)
        .lines()
        .skip(1)
        .map_while(|line| listening_row(&line.ok()?))
        .collect()
}

/// The inode in a row of /proc/net/tcp whose state is LISTEN (0A).
pub(crate) fn listening_row(row: &str) -> Option<u64> {
    let mut fields = row.split_ascii_whitespace();
    if fields.nth(3)? != "0A" {
        return None;
    }
    fields.nth(5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_listening_rows_only() {
        let row = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listening_row(row), Some(4242));
        assert_eq!(listening_row(&row.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening_row(""), None);
        assert_eq!(listening_row("a b c 0A"), None);
    }

    #[test]
    fn names_this_process_for_its_listener() -> std::io::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::MetadataExt;
        let inode = fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd()))?.ino();
        assert!(listening_inodes().contains(&inode));
        let mut processes = Processes::new();
        let mut holders = Holders::new(&mut processes);
        let found = holders.of(inode, &mut processes);
        assert_eq!(
            found.iter().map(|p| p.pid).collect::<Vec<_>>(),
            [std::process::id()]
        );
        // One look for a new listener finds those that began meanwhile.
        let other = std::net::TcpListener::bind("127.0.0.1:0")?;
        let second = fs::metadata(format!("/proc/self/fd/{}", other.as_raw_fd()))?.ino();
        holders.of(u64::MAX, &mut processes);
        assert!(holders.known.contains_key(&second));
        drop(listener);
        // What was seen outlives the socket.
        assert_eq!(holders.of(inode, &mut processes).len(), 1);
        Ok(())
    }
}

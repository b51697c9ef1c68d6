//! What /proc tells about one process, checked against its start time so that
//! a reused pid is never mistaken for the process that had it before.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    sync::Arc,
    time::Instant,
};

use tracer_common::{Task, flag};

use super::{cgroup, forget::make_room, names::Names};
use crate::{
    decode::comm,
    host::clock,
    model::{Place, Process},
};

/// How many processes are remembered at most. /proc is read again for one that was
/// forgotten, and if it is gone it keeps the name the kernel side gave it.
const REMEMBERED: usize = 4096;

/// After this long a remembered process is read again: it may have called
/// `execve`.
const FRESH_SECONDS: u64 = 1;

/// Reads and remembers processes.
pub(crate) struct Processes {
    ticks_per_second: u64,
    known: HashMap<(u32, u64), (Process, Instant)>,
    names: Names,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self {
            ticks_per_second: clock::ticks_per_second(),
            known: HashMap::new(),
            names: Names::new(),
        }
    }

    /// The process with this pid, if it is the one that started then (nanoseconds
    /// of `CLOCK_BOOTTIME`, as the kernel side reads them). What was
    /// learned while it lived outlives it. `None`: never seen, or not it.
    pub(crate) fn look_up(&mut self, pid: u32, start_ns: Option<u64>) -> Option<Process> {
        let wanted = start_ns.map(|ns| self.ticks(ns));
        if let Some(ticks) = wanted
            && let Some((process, read)) = self.known.get(&(pid, ticks))
            && read.elapsed().as_secs() < FRESH_SECONDS
        {
            return Some(process.clone());
        }
        let read = read(pid).filter(|(ticks, _)| wanted.is_none_or(|wanted| wanted == *ticks));
        match (read, wanted) {
            (Some((ticks, mut process)), _) => {
                if let Some(place) = &mut process.place {
                    self.names.add(Arc::make_mut(place));
                }
                make_room(&mut self.known, REMEMBERED);
                self.known
                    .insert((pid, ticks), (process.clone(), Instant::now()));
                Some(process)
            }
            (None, Some(ticks)) => self
                .known
                .get(&(pid, ticks))
                .map(|(process, _)| process.clone()),
            (None, None) => None,
        }
    }

    /// The process that the kernel side saw: its name at that moment, and what
    /// /proc adds if it still shows the same process. `None`: nobody was seen.
    pub(crate) fn of_task(&mut self, task: &Task) -> Option<Process> {
        if task.tgid == 0 {
            return None;
        }
        let known = self.look_up(task.tgid, Some(task.start_ns));
        let mut process = known.unwrap_or(Process {
            pid: task.tgid,
            kernel: task.flags & flag::KERNEL_THREAD != 0,
            ..Process::default()
        });
        process.comm = comm(task).to_vec();
        process.tid = Some(task.tid);
        process.uid = Some(task.uid);
        Some(process)
    }

    /// In the unit of `/proc/PID/stat`; nsec_to_clock_t() (kernel/time/time.c)
    /// truncates. /proc shows the time of the reader's time namespace.
    fn ticks(&self, ns: u64) -> u64 {
        ns.saturating_add_signed(clock::offsets().boottime)
            / (1_000_000_000 / self.ticks_per_second)
    }
}

/// Start time (in ticks) of a live process.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?).map(|stat| stat.start)
}

/// Whether the process that started then (nanoseconds of `CLOCK_BOOTTIME`) has ended.
pub(crate) fn is_gone(pid: u32, start_ns: u64) -> bool {
    let tick = 1_000_000_000 / clock::ticks_per_second();
    start_ticks(pid).is_none_or(|ticks| ticks != start_ns / tick)
}

/// Start time and everything else. The start time is read first and last, so
/// that a pid reused in between shows.
fn read(pid: u32) -> Option<(u64, Process)> {
    let stat = parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let cmdline = cmdline(pid).ok();
    let status = fs::read(format!("/proc/{pid}/status")).ok();
    let place = place(pid);
    if start_ticks(pid)? != stat.start {
        return None;
    }
    let process = Process {
        pid,
        tid: None,
        comm: stat.comm,
        exe: exe.map(|path| path.into_os_string().into_vec()),
        cmdline: cmdline.filter(|line| !line.is_empty()),
        uid: status.as_deref().and_then(real_uid),
        kernel: stat.is_kernel_thread,
        place: place.map(Arc::new),
    };
    Some((stat.start, process))
}

/// Where a live process belongs.
pub(super) fn place(pid: u32) -> Option<Place> {
    cgroup::parse(&fs::read(format!("/proc/{pid}/cgroup")).ok()?)
}

pub(crate) struct Stat {
    pub(crate) comm: Vec<u8>,
    pub(crate) start: u64,
    pub(crate) parent: u32,
    pub(crate) is_kernel_thread: bool,
}

/// `PF_KTHREAD` of the flags field (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Parses `/proc/PID/stat` (proc_pid_stat(5)). The name may hold anything,
/// blanks and parentheses included, so it ends at the last parenthesis.
pub(crate) fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` begins with field 3 (state).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm,
        start: number(22)?,
        parent: number(4)?.try_into().ok()?,
        is_kernel_thread: number(9)? & PF_KTHREAD != 0,
    })
}

/// Bytes that are kept of a command line: it may have megabytes, and goes into every
/// record of its process.
const CMDLINE: u64 = 4096;

/// The arguments; a longer command line ends in `...`.
fn cmdline(pid: u32) -> io::Result<Vec<u8>> {
    let file = File::open(format!("/proc/{pid}/cmdline"))?;
    let mut bytes = Vec::new();
    file.take(CMDLINE + 1).read_to_end(&mut bytes)?;
    Ok(join_arguments(bytes))
}

pub(crate) fn join_arguments(mut cmdline: Vec<u8>) -> Vec<u8> {
    let most = usize::try_from(CMDLINE).unwrap_or(usize::MAX);
    if cmdline.len() > most {
        cmdline.truncate(most);
        cmdline.extend(b"...");
    }
    while cmdline.last() == Some(&0) {
        cmdline.pop();
    }
    for byte in &mut cmdline {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    cmdline
}

/// The first number of the line `Uid:` in `/proc/PID/status`. The name in it need not
/// be text, but has no end of line (proc_task_name, fs/proc/array.c).
pub(crate) fn real_uid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let numbers = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    let numbers = std::str::from_utf8(numbers).ok()?;
    numbers.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat_with_name(name: &str) -> Vec<u8> {
        let zeros = "0 ".repeat(30);
        format!("42 ({name}) S 1 2 3 4 5 2097152 7 8 9 10 11 12 13 14 15 16 17 18 4711 {zeros}")
            .into_bytes()
    }

    #[test]
    fn names_may_hold_anything() {
        for name in ["nginx", "a b", "x) R 1", "((", "\u{1b}[31m", ""] {
            let stat = parse_stat(&stat_with_name(name)).map(|stat| (stat.comm, stat.start));
            assert_eq!(stat, Some((name.as_bytes().to_vec(), 4711)), "{name}");
        }
    }

    #[test]
    fn kernel_threads_are_told() {
        let kernel = parse_stat(&stat_with_name("kworker")).map(|stat| stat.is_kernel_thread);
        assert_eq!(kernel, Some(true));
    }

    #[test]
    fn any_prefix_is_refused_or_parsed() {
        let stat = stat_with_name("x");
        for length in 0..stat.len() {
            let _ = parse_stat(&stat[..length]);
        }
        assert!(parse_stat(b"").is_none());
        assert!(parse_stat(b")(").is_none());
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_user() {
        let status = b"Name:\t\xff\\nUid:\t1\nUmask:\t0022\nUid:\t33\t0\t0\t0\n";
        assert_eq!(real_uid(status), Some(33));
        assert_eq!(real_uid(b"Uid:\t\xff\n"), None);
        assert_eq!(real_uid(b""), None);
    }

    #[test]
    fn arguments_are_joined() {
        assert_eq!(join_arguments(b"a\0b c\0\0".to_vec()), b"a b c");
        assert_eq!(join_arguments(Vec::new()), b"");
        assert_eq!(join_arguments(vec![b'a'; 4096]), vec![b'a'; 4096]);
        assert_eq!(join_arguments(vec![b'a'; 4097])[4090..], *b"aaaaaa...");
    }

    #[test]
    fn this_process_is_found_and_an_impostor_is_not() {
        let mut processes = Processes::new();
        let pid = std::process::id();
        let tick = 1_000_000_000 / processes.ticks_per_second;
        let start = start_ticks(pid).map(|ticks| ticks * tick);
        assert!(start.is_some());
        assert_eq!(
            processes.look_up(pid, start).map(|process| process.pid),
            Some(pid)
        );
        assert_eq!(processes.look_up(pid, Some(tick)), None);
        assert_eq!(processes.look_up(u32::MAX, None), None);
    }
}

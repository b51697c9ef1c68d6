//! Who closed this connection? The kernel side remembers (hooks/close.rs there);
//! the kernel itself forgets the process of a `TIME_WAIT` socket.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::maps::{Array, MapError, PerCpuArray, Queue};
use tracer_common::{CHUNKS, Chunk, Closed, Connection, Cursor, Task, flag};
use zerocopy::FromBytes;

use crate::{
    host::sock_diag::{Row, state},
    probe::{Owned, Probe},
};

/// How long a socket stays in `TIME_WAIT` (`TCP_TIMEWAIT_LEN`,
/// include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// The kernel side's log of closed connections.
pub(crate) struct Closers {
    // Plain arrays, as in `source::counters`.
    log: Array<Owned, [u8; size_of::<Chunk>()]>,
    cursors: PerCpuArray<Owned, [u8; size_of::<Cursor>()]>,
    since: Instant,
}

/// What is known about the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    By(Task),
    /// Before tracer looked.
    Before,
    /// Neither remembered nor certainly older than tracer.
    Forgotten,
}

/// Hands the kernel side its chunks; before that it remembers nothing.
///
/// # Errors
/// The object lacks the map, or the kernel refuses to write it.
pub(crate) fn provide(probe: &mut Probe) -> Result<()> {
    // Not taken: the programs that are still to be loaded need it open.
    let map = probe.bpf_mut().map_mut("OLDEST").context("no map OLDEST")?;
    let mut oldest: Queue<&mut Owned, u32> = Queue::try_from(map)?;
    for chunk in 0..CHUNKS {
        oldest
            .push(chunk, 0)
            .context("the log of closed connections cannot be set up")?;
    }
    Ok(())
}

impl Closers {
    /// # Errors
    /// The object lacks the maps.
    pub(crate) fn new(probe: &mut Probe) -> Result<Self> {
        Ok(Self {
            log: probe.take_map("CLOSED")?,
            cursors: probe.take_map("CURSOR")?,
            since: Instant::now(),
        })
    }

    /// What is remembered about the connections in `rows`, which were listed in
    /// the namespace `netns` before this.
    pub(crate) fn recall(&self, netns: u32, rows: &[Row]) -> Recalled {
        let mut last: HashMap<Connection, Option<(u64, Task)>> = rows
            .iter()
            .filter(|row| row.remote.port() != 0)
            .map(|row| (connection(netns, row), None))
            .collect();
        let mut is_unread = false;
        for index in 0..CHUNKS {
            match self.log.get(&index, 0) {
                Ok(chunk) => note(&chunk, &mut last),
                Err(_) => is_unread = true,
            }
        }
        Recalled {
            last,
            netns,
            has_forgotten: is_unread || self.has_forgotten().unwrap_or(true),
            watched: self.since.elapsed(),
        }
    }

    /// Who closed connections to this port in this namespace: whether it was IPv6, and
    /// the process.
    pub(crate) fn towards(&self, netns: u32, port: u16) -> Vec<(bool, Task)> {
        let mut found = Vec::new();
        for index in 0..CHUNKS {
            let chunk = self.log.get(&index, 0).ok();
            let Some(chunk) = chunk.and_then(|bytes| Chunk::read_from_bytes(&bytes).ok()) else {
                continue;
            };
            let closed = chunk.closed.iter().filter(|closed| is_whole(closed));
            let closed = closed.map(|closed| (closed.connection, closed.by));
            found.extend(
                closed
                    .filter(|(of, _)| of.netns == netns && of.remote_port == port)
                    .map(|(of, by)| (of.remote[4..] != [0; 12], by)),
            );
        }
        found
    }

    /// Whether something that was closed since tracer looks is not in the log,
    /// or not any more.
    fn has_forgotten(&self) -> Result<bool, MapError> {
        let cursors = self.cursors.get(&0, 0)?;
        let forgot = |cursor: Cursor| cursor.forgotten_until != 0 || cursor.lost != 0;
        Ok(cursors
            .iter()
            .any(|bytes| Cursor::read_from_bytes(bytes).map_or(true, forgot)))
    }
}

/// Notes what a chunk of the log tells about the connections that are wanted:
/// of one that was closed more than once, the last time.
fn note(chunk: &[u8], wanted: &mut HashMap<Connection, Option<(u64, Task)>>) {
    let Ok(chunk) = Chunk::read_from_bytes(chunk) else {
        return;
    };
    for closed in chunk.closed.iter().filter(|closed| is_whole(closed)) {
        if let Some(last) = wanted.get_mut(&closed.connection) {
            let now = (closed.begin, closed.by);
            *last = Some(last.map_or(now, |before| later(before, now)));
        }
    }
}

/// Of two ends of one connection, the one that counts: the later one. But a
/// kernel thread that ends what a process has just closed (a subflow of MPTCP)
/// does so for that process.
fn later(one: (u64, Task), other: (u64, Task)) -> (u64, Task) {
    let is_kernel = |(_, task): &(u64, Task)| task.flags & flag::KERNEL_THREAD != 0;
    let (early, late) = if one.0 < other.0 {
        (one, other)
    } else {
        (other, one)
    };
    let is_soon = Duration::from_nanos(late.0 - early.0) < 2 * TIME_WAIT;
    if is_kernel(&late) && !is_kernel(&early) && is_soon {
        early
    } else {
        late
    }
}

/// Not empty, and not copied while it was being written.
fn is_whole(closed: &Closed) -> bool {
    closed.begin != 0 && closed.begin == closed.end
}

/// An excerpt of the log.
pub(crate) struct Recalled {
    last: HashMap<Connection, Option<(u64, Task)>>,
    netns: u32,
    has_forgotten: bool,
    watched: Duration,
}

impl Recalled {
    /// Who closed `row`, one of those that the excerpt was made for.
    pub(crate) fn end(&self, row: &Row) -> End {
        match self.last.get(&connection(self.netns, row)) {
            Some(Some((_, task))) => End::By(*task),
            _ => unseen(row, self.has_forgotten, self.watched),
        }
    }
}

fn connection(netns: u32, row: &Row) -> Connection {
    Connection {
        local: bytes(row.local),
        remote: bytes(row.remote),
        netns,
        local_port: row.local.port(),
        remote_port: row.remote.port(),
    }
}

fn bytes(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// Nothing is remembered about `row`: as long as nothing was forgotten, it was
/// closed before tracer looked; else its age must prove that.
fn unseen(row: &Row, has_forgotten: bool, watched: Duration) -> End {
    let left = Duration::from_millis(row.timer_ms.into());
    let age = TIME_WAIT.saturating_sub(left);
    let is_older = row.state == state::TIME_WAIT && age > watched;
    if is_older || !has_forgotten {
        End::Before
    } else {
        End::Forgotten
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::CHUNK;
    use zerocopy::IntoBytes;

    use super::*;

    fn row(state: u8, timer_ms: u32) -> Row {
        Row {
            state,
            local: SocketAddr::from(([10, 0, 0, 1], 40000)),
            remote: SocketAddr::from(([10, 0, 0, 2], 80)),
            is_ipv6: false,
            inode: 0,
            uid: 0,
            receive_queue: 0,
            send_queue: 0,
            timer_ms,
            drops: None,
        }
    }

    #[test]
    fn nothing_is_guessed() {
        let watched = Duration::from_secs(10);
        let unseen = |state, timer_ms, forgot| unseen(&row(state, timer_ms), forgot, watched);
        assert_eq!(unseen(state::TIME_WAIT, 55_000, false), End::Before);
        assert_eq!(unseen(state::TIME_WAIT, 55_000, true), End::Forgotten);
        // Has waited for longer than tracer has watched.
        assert_eq!(unseen(state::TIME_WAIT, 40_000, true), End::Before);
        // The timer of another state says nothing about its age.
        assert_eq!(unseen(state::CLOSE_WAIT, 0, true), End::Forgotten);
    }

    #[test]
    fn both_sides_spell_a_connection_alike() {
        let connection = connection(7, &row(6, 0));
        assert_eq!(connection.local[..5], [10, 0, 0, 1, 0]);
        assert_eq!(connection.remote[..4], [10, 0, 0, 2]);
        assert_eq!(connection.netns, 7);
        assert_eq!((connection.local_port, connection.remote_port), (40000, 80));
    }

    #[test]
    fn a_worker_of_the_kernel_closes_for_a_process() {
        let by = |seconds: u64, tgid, flags| {
            let task = Task {
                tgid,
                flags,
                ..Task::default()
            };
            (seconds * 1_000_000_000, task)
        };
        let (process, next) = (by(10, 7, 0), by(12, 8, 0));
        let (worker, much_later) = (
            by(11, 9, flag::KERNEL_THREAD),
            by(200, 9, flag::KERNEL_THREAD),
        );
        assert_eq!(later(process, worker), process);
        assert_eq!(later(worker, process), process);
        assert_eq!(later(process, next), next);
        assert_eq!(later(worker, next), next);
        assert_eq!(later(much_later, process), much_later);
    }

    #[test]
    fn the_last_whole_entry_counts() {
        let wanted = connection(7, &row(6, 0));
        let entry = |connection, begin, end, tgid| Closed {
            begin,
            connection,
            by: Task {
                tgid,
                ..Task::default()
            },
            end,
        };
        let none = entry(wanted, 0, 0, 1);
        let mut chunk = Chunk {
            cpu: 0,
            pad: 0,
            newest: 0,
            closed: [none; CHUNK],
        };
        chunk.closed[0] = entry(wanted, 20, 20, 2);
        chunk.closed[1] = entry(wanted, 10, 10, 3);
        // Being written, and half overwritten.
        chunk.closed[2] = entry(wanted, 30, 0, 4);
        chunk.closed[3] = entry(wanted, 30, 40, 5);
        chunk.closed[4] = entry(connection(8, &row(6, 0)), 50, 50, 6);
        let mut last = HashMap::from([(wanted, None)]);
        note(chunk.as_bytes(), &mut last);
        let found = last.get(&wanted).copied().flatten();
        assert_eq!(found.map(|(time, by)| (time, by.tgid)), Some((20, 2)));
        assert_eq!(last.len(), 1);
        note(&[0; 7], &mut last);
    }
}

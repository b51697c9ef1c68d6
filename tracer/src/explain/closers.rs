//! Who closed this connection? The kernel side remembers (hooks/close.rs there);
//! the kernel itself forgets the process of a `TIME_WAIT` socket.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Result;
use tracer_common::{CLOSERS, Closer, CloserKey, Task};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    host::sock_diag::{Row, state},
    probe::{Owned, Probe},
    source::counters::Health,
};

/// How long a socket stays in `TIME_WAIT` (`TCP_TIMEWAIT_LEN`,
/// include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Entries that can be unused while others are evicted: each CPU keeps some
/// free ones to itself (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.h).
const KEPT_PER_CPU: u64 = 128;

/// More than are closed between reading the counters and asking.
const MEANWHILE: u64 = 16 * 1024;

/// What the kernel side remembers.
pub(crate) struct Closers {
    // Plain arrays, as in `source::counters`.
    connections: aya::maps::HashMap<Owned, [u8; size_of::<CloserKey>()], [u8; size_of::<Closer>()]>,
    names: aya::maps::HashMap<Owned, [u8; size_of::<Closer>()], [u8; size_of::<Task>()]>,
    since: Instant,
}

/// What is known about the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    By(Task),
    /// Before tracer looked.
    Before,
    /// Neither remembered nor certainly older than tracer.
    Forgotten,
}

impl Closers {
    /// # Errors
    /// The object lacks the maps.
    pub(crate) fn new(probe: &mut Probe) -> Result<Self> {
        Ok(Self {
            connections: probe.take_map("CLOSERS")?,
            names: probe.take_map("CLOSING")?,
            since: Instant::now(),
        })
    }

    /// Who closed the connection `row`, which is in namespace `netns`. `health`
    /// may be some seconds old.
    pub(crate) fn of(&self, netns: u32, row: &Row, health: Health) -> Closed {
        match self.find(netns, row) {
            Some(task) => Closed::By(task),
            None => unseen(row, may_have_forgotten(health), self.since.elapsed()),
        }
    }

    fn find(&self, netns: u32, row: &Row) -> Option<Task> {
        let mut key = [0; size_of::<CloserKey>()];
        key.copy_from_slice(key_of(netns, row).as_bytes());
        let closer = self.connections.get(&key, 0).ok()?;
        match self.names.get(&closer, 0) {
            Ok(task) => Task::read_from_bytes(&task).ok(),
            // Its name is forgotten, which process it was is not.
            Err(_) => {
                let closer = Closer::read_from_bytes(&closer).ok()?;
                Some(Task {
                    tgid: closer.tgid,
                    start_ns: closer.start_ns,
                    ..Task::default()
                })
            }
        }
    }
}

fn key_of(netns: u32, row: &Row) -> CloserKey {
    CloserKey {
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

/// Whether something that was remembered can be missing by now.
fn may_have_forgotten(health: Health) -> bool {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kept = KEPT_PER_CPU * u64::try_from(cpus).unwrap_or(u64::MAX);
    let certain = u64::from(CLOSERS).saturating_sub(kept + MEANWHILE);
    health.closers_lost > 0 || health.closers > certain
}

/// Nothing is remembered about `row`: as long as nothing can have been
/// forgotten, it was closed before tracer looked; else its age must prove that.
fn unseen(row: &Row, may_have_forgotten: bool, watching: Duration) -> Closed {
    let left = Duration::from_millis(row.timer_ms.into());
    let age = TIME_WAIT.saturating_sub(left);
    let is_older = row.state == state::TIME_WAIT && age > watching;
    if is_older || !may_have_forgotten {
        Closed::Before
    } else {
        Closed::Forgotten
    }
}

#[cfg(test)]
mod tests {
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
        let watching = Duration::from_secs(10);
        let unseen = |state, timer_ms, forgot| unseen(&row(state, timer_ms), forgot, watching);
        assert_eq!(unseen(state::TIME_WAIT, 55_000, false), Closed::Before);
        assert_eq!(unseen(state::TIME_WAIT, 55_000, true), Closed::Forgotten);
        // Has waited for longer than tracer has watched.
        assert_eq!(unseen(state::TIME_WAIT, 40_000, true), Closed::Before);
        // The timer of another state says nothing about its age.
        assert_eq!(unseen(state::CLOSE_WAIT, 0, true), Closed::Forgotten);
    }

    #[test]
    fn memory_is_full_before_its_last_entry() {
        let health = |closers, closers_lost| Health {
            closers,
            closers_lost,
            ..Health::default()
        };
        assert!(!may_have_forgotten(health(1000, 0)));
        assert!(may_have_forgotten(health(1000, 1)));
        assert!(may_have_forgotten(health(u64::from(CLOSERS) - 1, 0)));
    }

    #[test]
    fn both_sides_spell_a_connection_alike() {
        let key = key_of(7, &row(6, 0));
        assert_eq!(key.local[..5], [10, 0, 0, 1, 0]);
        assert_eq!(key.remote[..4], [10, 0, 0, 2]);
        assert_eq!((key.netns, key.local_port, key.remote_port), (7, 40000, 80));
    }
}

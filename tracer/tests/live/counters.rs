//! The kernel's own counters of a namespace: the oracle for queue drops.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::limits;
use crate::netns::Namespace;

/// The three counters that listen-queue drops move, and two that qualify them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Accept queue full, at a SYN or at a final ACK.
    pub(crate) listen_overflows: u64,
    /// Every segment that a listener dropped.
    pub(crate) listen_drops: u64,
    /// SYNs dropped because the request queue was full.
    pub(crate) request_queue_full: u64,
    /// Requests ended by a reset.
    pub(crate) embryonic_resets: u64,
    /// SYN cookies sent.
    pub(crate) cookies_sent: u64,
}

impl Counters {
    /// Reads them inside `space`.
    pub(crate) fn read(space: &Namespace) -> Result<Self> {
        let text = space.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/netstat")?))?;
        Self::parse(&text).context("/proc/net/netstat has no TcpExt block")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let mut counters = Self::default();
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            let slot = match name {
                "ListenOverflows" => &mut counters.listen_overflows,
                "ListenDrops" => &mut counters.listen_drops,
                "TCPReqQFullDrop" => &mut counters.request_queue_full,
                "EmbryonicRsts" => &mut counters.embryonic_resets,
                "SyncookiesSent" => &mut counters.cookies_sent,
                _ => continue,
            };
            *slot = value.parse().ok()?;
        }
        Some(counters)
    }

    /// Waits until `reached`; fails with the last reading when it never is.
    pub(crate) fn await_in(
        space: &Namespace,
        what: &str,
        reached: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let end = Instant::now() + limits::event();
        loop {
            let now = Self::read(space)?;
            if reached(&now) {
                return Ok(now);
            }
            if Instant::now() >= end {
                bail!("kernel counters never showed {what}: {now:?}");
            }
            std::thread::yield_now();
        }
    }
}

/// How many connections wait in the accept queues of this port, as /proc/net/tcp says:
/// for a listener the column of unread bytes is the length of its queue.
pub(crate) fn queued(space: &Namespace, port: u16) -> Result<u64> {
    space.run(|| {
        for file in ["tcp", "tcp6"] {
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
            let queues = text.lines().skip(1).filter_map(|line| queue_of(line, port));
            // Reading such a file walks the kernel's whole table: not without need.
            match queues.sum() {
                0 => {}
                sum => return Ok(sum),
            }
        }
        Ok(0)
    })
}

fn queue_of(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut columns = line.split_whitespace().skip(1);
    let (_, own) = columns.next()?.rsplit_once(':')?;
    if columns.nth(1)? != LISTEN || u16::from_str_radix(own, 16).ok()? != port {
        return None;
    }
    let (_, unread) = columns.next()?.split_once(':')?;
    u64::from_str_radix(unread, 16).ok()
}

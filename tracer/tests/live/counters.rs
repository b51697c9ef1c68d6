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

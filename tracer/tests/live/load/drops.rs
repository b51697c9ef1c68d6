//! SYNs that find a full accept queue, from a TUN device: as many a second as wanted.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Load, by_children};
use crate::counters::Counters;
use crate::packet::{self, Segment};
use crate::sys;
use crate::tun::{self, Tun};

const OWN: [u8; 4] = [10, 77, 0, 1];
pub(super) const LOWEST: u16 = 10_000;
/// Clients that do not exist.
const CLIENTS: u16 = 4096;
/// Between two looks at the clock.
const BATCH: usize = 20;

impl Load {
    /// `rate` SYNs a second (0: as many as one thread can send) for so long.
    pub(super) fn drop(&mut self, rate: u32, millis: u64) -> Result<Value> {
        let tun = self.wire()?;
        let (listener, client) = full_listener(LOWEST)?;
        self.held.extend([listener, client]);
        let syns = syns()?;
        let before = Counters::read(&self.space)?;
        let limit = Duration::from_millis(millis);
        let begun = Instant::now();
        let mut sent = 0;
        let mut syns = syns.iter().cycle();
        while begun.elapsed() < limit {
            if rate > 0 {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            for syn in syns.by_ref().take(BATCH) {
                tun.send_bytes(syn)?;
            }
            sent += BATCH;
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.dropped(&before, sent, seconds)
    }

    /// One SYN for each of so many listeners.
    pub(super) fn drop_at(&mut self, listeners: u16) -> Result<Value> {
        let tun = self.wire()?;
        let ports = LOWEST..LOWEST + listeners;
        by_children(u32::from(listeners), |first, count| {
            for nth in first..first + count {
                full_listener(LOWEST + u16::try_from(nth)?)?;
            }
            Ok(())
        })?;
        let before = Counters::read(&self.space)?;
        let begun = Instant::now();
        for port in ports {
            tun.send_bytes(&syn(0, port)?)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.dropped(&before, usize::from(listeners), seconds)
    }

    fn dropped(&self, before: &Counters, sent: usize, seconds: f64) -> Result<Value> {
        let now = Counters::read(&self.space)?;
        Ok(json!({
            "sent": sent,
            "seconds": seconds,
            "overflows": now.listen_overflows - before.listen_overflows,
            "drops": now.listen_drops - before.listen_drops,
        }))
    }

    pub(super) fn wire(&self) -> Result<Tun> {
        let tun = Tun::new(&self.space)?;
        self.space.address(tun::NAME, IpAddr::from(OWN), 16)?;
        Ok(tun)
    }
}

/// A listener with room for one, who is there.
pub(super) fn full_listener(port: u16) -> Result<(i32, i32)> {
    let address = SocketAddr::from((OWN, port));
    let listener = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::bind(listener, &address)?;
    sys::listen(listener, 0)?;
    let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::connect(client, &address)?;
    Ok((listener, client))
}

/// One of each client, to the lowest port.
pub(super) fn syns() -> Result<Vec<Vec<u8>>> {
    (0..CLIENTS).map(|client| syn(client, LOWEST)).collect()
}

pub(super) fn syn(client: u16, port: u16) -> Result<Vec<u8>> {
    let [high, low] = client.to_be_bytes();
    let from = SocketAddr::from(([10, 77, 1 + high, low], 20_000 + client));
    packet::build(&Segment::syn(from, SocketAddr::from((OWN, port))))
}

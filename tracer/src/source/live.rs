//! Ring buffer → bytes.

use std::{io, time::Duration};

use anyhow::{Context, Result};
use aya::maps::RingBuf;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, timeout_at},
};

use tracer_common::{Event, RING_BYTES, WAKE_INTERVAL_NS};

use crate::probe::Owned;

/// How long after a record the ring is looked at again without being woken.
/// Within [`WAKE_INTERVAL_NS`] of a wake-up records come silently; a record that
/// is still to come after this look has a wake-up of its own.
const LOOK_AGAIN: Duration = Duration::from_nanos(2 * WAKE_INTERVAL_NS);

/// The descriptions of a running kernel.
pub(crate) struct Live {
    ring: AsyncFd<RingBuf<Owned>>,
    buffer: BytesMut,
    /// The ring was seen empty after the last wait.
    is_drained: bool,
    /// Records may have come silently: look again then.
    look_again: Option<Instant>,
}

impl Live {
    /// At least as many records as the ring holds: each takes its size and a
    /// header of eight bytes (BPF_RINGBUF_HDR_SZ, kernel/bpf/ringbuf.c).
    pub(crate) const CAPACITY: usize = RING_BYTES / (size_of::<Event>() + 8) + 1;

    /// # Errors
    /// The ring cannot be polled.
    pub(crate) fn new(ring: RingBuf<Owned>) -> Result<Self> {
        // SAFETY: the map's descriptor is owned by the ring, which is moved in
        // here and keeps the same descriptor open for as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(io::Error::from)
            .context("the ring buffer cannot be polled")?;
        Ok(Self {
            ring,
            buffer: BytesMut::with_capacity(1 << 16),
            is_drained: true,
            look_again: None,
        })
    }

    /// Waits until there may be something to [`Live::take`]. Safe to cancel.
    ///
    /// # Errors
    /// The ring can no longer be polled.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        if !self.is_drained {
            // Let signals and timers have their turn under a flood.
            tokio::task::yield_now().await;
            return Ok(());
        }
        // Readiness is edge-triggered and is cleared before the ring is read,
        // so a wake-up that arrives meanwhile ends the next wait.
        match self.look_again {
            None => self.ring.readable_mut().await?.clear_ready(),
            Some(then) => match timeout_at(then, self.ring.readable_mut()).await {
                Ok(ready) => ready?.clear_ready(),
                // A record found now sets the time anew; none, and all is quiet.
                Err(_) => self.look_again = None,
            },
        }
        self.is_drained = false;
        Ok(())
    }

    /// The next record, if there is one.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let Some(item) = self.ring.get_mut().next() else {
            self.is_drained = true;
            return None;
        };
        self.look_again = Some(Instant::now() + LOOK_AGAIN);
        self.buffer.extend_from_slice(&item);
        Some(self.buffer.split().freeze())
    }
}

//! A TUN device: peers that do not exist send TCP segments, and what the kernel
//! answers them can be read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::case::Skip;
use crate::netns::Namespace;
use crate::packet::{self, Segment};
use crate::{limits, sys};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TUN_NO_PI: u16 = 0x0001 | 0x1000;

/// The name of the device.
pub(crate) const NAME: &str = "tun0";

/// A device, as the wire behind it.
#[derive(Debug)]
pub(crate) struct Tun {
    wire: File,
}

impl Tun {
    /// Makes the device in `space`, without an address and down.
    pub(crate) fn new(space: &Namespace) -> Result<Self> {
        space.run(|| {
            let wire = File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => Skip::because("this kernel has no /dev/net/tun"),
                    _ => anyhow::Error::new(error).context("/dev/net/tun"),
                })?;
            let mut request = [0_u8; 40];
            request[..NAME.len()].copy_from_slice(NAME.as_bytes());
            request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
            sys::ioctl(wire.as_raw_fd(), TUNSETIFF, &mut request).context("TUNSETIFF")?;
            sys::set_nonblocking(wire.as_raw_fd())?;
            Ok(Self { wire })
        })
    }

    /// A segment comes in from the wire.
    pub(crate) fn send(&self, segment: &Segment) -> Result<()> {
        self.send_bytes(&packet::build(segment)?)
    }

    /// The same, if it was built before.
    pub(crate) fn send_bytes(&self, packet: &[u8]) -> Result<()> {
        (&self.wire).write_all(packet).context("write to tun")
    }

    /// The next TCP segment that the kernel sends, `None` when none comes within `limit`.
    fn receive(&self, limit: Duration) -> Result<Option<Segment>> {
        let end = Instant::now() + limit;
        loop {
            let mut bytes = [0_u8; 2048];
            match (&self.wire).read(&mut bytes) {
                Ok(len) => {
                    // Neighbour discovery and the like are not for us.
                    if let Some(segment) = bytes.get(..len).and_then(packet::parse) {
                        return Ok(Some(segment));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() || !sys::readable(self.wire.as_raw_fd(), left)? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).context("read from tun"),
            }
        }
    }

    /// Waits for the SYN-ACK to `peer`.
    pub(crate) fn await_syn_ack(&self, peer: &SocketAddr) -> Result<Segment> {
        loop {
            match self.receive(limits::event())? {
                // Repeated SYN-ACKs to earlier peers may come in between.
                Some(segment) if segment.is_syn_ack() && segment.to == *peer => return Ok(segment),
                Some(_) => {}
                None => bail!("no SYN-ACK came for {peer}"),
            }
        }
    }

    /// Whom the kernel has sent a segment of this kind so far. Does not wait: what
    /// answers a segment is sent before the segment counts.
    pub(crate) fn drain(&self, of_kind: impl Fn(&Segment) -> bool) -> Result<BTreeSet<SocketAddr>> {
        let mut peers = BTreeSet::new();
        while let Some(segment) = self.receive(Duration::ZERO)? {
            if of_kind(&segment) {
                peers.insert(segment.to);
            }
        }
        Ok(peers)
    }
}

/// The n-th peer of `subnet` that does not exist.
pub(crate) fn fake_peer(own: IpAddr, n: u8) -> SocketAddr {
    let ip = match own {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, n])
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = n;
            IpAddr::from(octets)
        }
    };
    SocketAddr::new(ip, 20_000 + u16::from(n))
}

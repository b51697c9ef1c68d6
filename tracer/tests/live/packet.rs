//! TCP segments as bytes, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, bail};

const TCP: u8 = 6;
/// FIN, SYN, RST and ACK bits of the TCP header.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// A TCP segment without options and payload.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
}

impl Segment {
    /// The first segment of a connection.
    pub(crate) fn syn(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            seq: 1000,
            ack: 0,
            flags: SYN,
        }
    }

    /// The peer's answer to this SYN-ACK.
    pub(crate) fn final_ack(&self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            seq: self.ack,
            ack: self.seq.wrapping_add(1),
            flags: ACK,
        }
    }

    pub(crate) fn is_syn_ack(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN | ACK
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }
}

/// The segment with its IP header and correct checksums.
pub(crate) fn build(segment: &Segment) -> Result<Vec<u8>> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend_from_slice(&segment.from.port().to_be_bytes());
    tcp.extend_from_slice(&segment.to.port().to_be_bytes());
    tcp.extend_from_slice(&segment.seq.to_be_bytes());
    tcp.extend_from_slice(&segment.ack.to_be_bytes());
    tcp.extend_from_slice(&[5 << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    let (header, pseudo) = match (segment.from.ip(), segment.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => header_v4(from, to),
        (IpAddr::V6(from), IpAddr::V6(to)) => header_v6(from, to),
        _ => bail!("addresses of two families"),
    };
    let sum = checksum(&[pseudo, tcp.clone()].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok([header, tcp].concat())
}

/// "Host unreachable" about this IPv4 segment, from where it was sent to.
pub(crate) fn unreachable(about: &Segment) -> Result<Vec<u8>> {
    const ICMP: u8 = 1;
    let quoted = build(about)?;
    let mut icmp = [vec![3, 1, 0, 0, 0, 0, 0, 0], quoted].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let (IpAddr::V4(from), IpAddr::V4(to)) = (about.to.ip(), about.from.ip()) else {
        bail!("not IPv4");
    };
    let (mut header, _) = header_v4(from, to);
    header[2..4].copy_from_slice(&u16::try_from(20 + icmp.len())?.to_be_bytes());
    header[9] = ICMP;
    header[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok([header, icmp].concat())
}

/// IPv4 header and TCP pseudo header for 20 bytes of TCP.
fn header_v4(from: Ipv4Addr, to: Ipv4Addr) -> (Vec<u8>, Vec<u8>) {
    let addresses = [from.octets(), to.octets()].concat();
    let mut header = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0];
    header.extend_from_slice(&addresses);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    (header, [addresses, vec![0, TCP, 0, 20]].concat())
}

/// IPv6 header and TCP pseudo header for 20 bytes of TCP.
fn header_v6(from: Ipv6Addr, to: Ipv6Addr) -> (Vec<u8>, Vec<u8>) {
    let addresses = [from.octets(), to.octets()].concat();
    let header = [vec![0x60, 0, 0, 0, 0, 20, TCP, 64], addresses.clone()].concat();
    (
        header,
        [addresses, vec![0, 0, 0, 20, 0, 0, 0, TCP]].concat(),
    )
}

/// The Internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(0)
}

/// The TCP segment in an IP packet, if it is one.
pub(crate) fn parse(packet: &[u8]) -> Option<Segment> {
    let (from, to, tcp) = match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&TCP) => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
            let to = <[u8; 4]>::try_from(packet.get(16..20)?).ok()?;
            (IpAddr::from(from), IpAddr::from(to), packet.get(header..)?)
        }
        6 if packet.get(6) == Some(&TCP) => {
            let from = <[u8; 16]>::try_from(packet.get(8..24)?).ok()?;
            let to = <[u8; 16]>::try_from(packet.get(24..40)?).ok()?;
            (IpAddr::from(from), IpAddr::from(to), packet.get(40..)?)
        }
        _ => return None,
    };
    let word = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    Some(Segment {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        seq: word(4)?,
        ack: word(8)?,
        flags: *tcp.get(13)?,
    })
}

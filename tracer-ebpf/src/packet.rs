//! A segment as `cgroup_skb/ingress` sees it, read with skb helpers: the data
//! starts at the IP header.

use aya_ebpf::programs::SkBuffContext;

use crate::kernel::Address;

const TCP: u8 = 6;
const MAX_EXTENSION_HEADERS: u32 = 4;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// What the listener's decision depends on. Too large for the stack beside
/// everything else: it lives in the map `SEGMENT`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Segment {
    pub from: Address,
    pub to: Address,
    pub seq: u32,
    pub ack: u32,
    /// Behind the last sequence number: payload and FIN count.
    pub end_seq: u32,
}

/// The flags of the segment; `None` if it is not TCP.
#[inline(always)]
pub fn flags(ctx: &SkBuffContext) -> Option<u8> {
    let version: u8 = ctx.load(0).ok()?;
    let header = if version >> 4 == 4 {
        (ctx.load::<u8>(9).ok()? == TCP).then_some((version & 0xf) as usize * 4)?
    } else {
        header_v6(ctx)?
    };
    ctx.load(header + 13).ok()
}

/// Reads the segment into `out`; `None` if it is not TCP.
#[inline(always)]
pub fn parse(ctx: &SkBuffContext, out: &mut Segment) -> Option<()> {
    let version: u8 = ctx.load(0).ok()?;
    if version >> 4 == 4 {
        parse_v4(ctx, version, out)
    } else {
        parse_v6(ctx, out)
    }
}

#[inline(always)]
fn parse_v4(ctx: &SkBuffContext, version: u8, out: &mut Segment) -> Option<()> {
    if ctx.load::<u8>(9).ok()? != TCP {
        return None;
    }
    let header = (version & 0xf) as usize * 4;
    let total = u16::from_be_bytes(ctx.load(2).ok()?) as usize;
    out.from = Address::v4(ctx.load(12).ok()?, 0);
    out.to = Address::v4(ctx.load(16).ok()?, 0);
    parse_tcp(ctx, header, total, out)
}

#[inline(always)]
fn parse_v6(ctx: &SkBuffContext, out: &mut Segment) -> Option<()> {
    let total = u16::from_be_bytes(ctx.load(4).ok()?) as usize + 40;
    let header = header_v6(ctx)?;
    out.from = Address::v6(ctx.load(8).ok()?, 0);
    out.to = Address::v6(ctx.load(24).ok()?, 0);
    parse_tcp(ctx, header, total, out)
}

/// Where TCP begins behind an IPv6 header and its extensions.
#[inline(always)]
fn header_v6(ctx: &SkBuffContext) -> Option<usize> {
    let mut next: u8 = ctx.load(6).ok()?;
    let mut header = 40;
    let mut left = MAX_EXTENSION_HEADERS;
    // Hop-by-hop (0), routing (43) and destination options (60) share one
    // layout: next header, length in 8 bytes not counting the first 8.
    while next != TCP && left > 0 {
        if next != 0 && next != 43 && next != 60 {
            return None;
        }
        next = ctx.load(header).ok()?;
        header += (ctx.load::<u8>(header + 1).ok()? as usize + 1) * 8;
        left -= 1;
    }
    (next == TCP).then_some(header)
}

#[inline(always)]
fn parse_tcp(ctx: &SkBuffContext, at: usize, total: usize, out: &mut Segment) -> Option<()> {
    let bytes: [u8; 16] = ctx.load(at).ok()?;
    out.from.port = u16::from_be_bytes([bytes[0], bytes[1]]);
    out.to.port = u16::from_be_bytes([bytes[2], bytes[3]]);
    out.seq = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    out.ack = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let payload = total.saturating_sub(at + (bytes[12] >> 4) as usize * 4) as u32;
    let fin = (bytes[13] & FIN != 0) as u32;
    out.end_seq = out.seq.wrapping_add(payload).wrapping_add(fin);
    Some(())
}

//! Where does a zstd frame end? Pure: header and block sizes, nothing is
//! decompressed (RFC 8878, section 3.1.1).

use super::MAX_FRAME;

/// What every frame begins with: 0xFD2FB528, little-endian.
pub(super) const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// What a skippable frame begins with, but for the last four bits.
const SKIPPABLE: u32 = 0x184D_2A50;

/// No block is larger, compressed or not.
const MAX_BLOCK: usize = 128 << 10;

/// What cannot be compressed is stored as it is, which adds three bytes to a
/// block. Blocks may be small, so much more is allowed for.
const MAX_COMPRESSED: usize = MAX_FRAME + MAX_FRAME / 8;

/// Blocks of a frame. tracer's own have three; what is flushed often has more.
const MAX_BLOCKS: usize = 1024;

/// What begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// A frame of this many bytes.
    Frame(usize),
    /// A skippable frame of this many bytes.
    Skippable(u64),
    /// Not to be told before there are this many bytes.
    Needs(usize),
    /// No frame.
    Nothing,
    /// A frame with nonsense in it.
    Corrupt,
    /// A frame that is larger than allowed, of too many blocks, or without a checksum.
    Refused,
}

/// Says what begins where `bytes` begin.
pub(super) fn find(bytes: &[u8]) -> Boundary {
    walk(bytes).unwrap_or_else(|found| found)
}

/// `Err`: found out early.
fn walk(bytes: &[u8]) -> Result<Boundary, Boundary> {
    let magic = number(bytes, 0, 4)?;
    if magic & !0xF == u64::from(SKIPPABLE) {
        return Ok(Boundary::Skippable(8 + number(bytes, 4, 4)?));
    }
    if magic != u64::from(u32::from_le_bytes(MAGIC)) {
        return Err(Boundary::Nothing);
    }
    let mut at = header(bytes)?;
    let mut unpacked = 0;
    for _ in 0..MAX_BLOCKS {
        let block = number(bytes, at, 3)?;
        let is_last = block & 1 != 0;
        let size = usize::try_from(block >> 3).unwrap_or(usize::MAX);
        if size > MAX_BLOCK {
            return Err(Boundary::Corrupt);
        }
        // Raw, one byte repeated, compressed.
        let (stored, known) = match block >> 1 & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, 0),
            _ => return Err(Boundary::Corrupt),
        };
        at += 3 + stored;
        unpacked += known;
        if unpacked > MAX_FRAME || at > MAX_COMPRESSED {
            return Err(Boundary::Refused);
        }
        if is_last {
            let end = at + CHECKSUM;
            if bytes.len() < end {
                return Err(Boundary::Needs(end));
            }
            return Ok(Boundary::Frame(end));
        }
    }
    Err(Boundary::Refused)
}

/// The length of the content checksum, at the end of the frame.
const CHECKSUM: usize = 4;

/// Where the header ends.
fn header(bytes: &[u8]) -> Result<usize, Boundary> {
    let descriptor = number(bytes, 4, 1)?;
    let is_reserved = descriptor & 0x08 != 0;
    if is_reserved {
        return Err(Boundary::Corrupt);
    }
    let has_checksum = descriptor & 0x04 != 0;
    if !has_checksum {
        return Err(Boundary::Refused);
    }
    let is_single_segment = descriptor & 0x20 != 0;
    let window = usize::from(!is_single_segment);
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let size = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let at = 5 + window + dictionary;
    if number(bytes, at, size)? > MAX_FRAME as u64 {
        return Err(Boundary::Refused);
    }
    Ok(at + size)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64, Boundary> {
    let end = at + length;
    let part = bytes.get(at..end).ok_or(Boundary::Needs(end))?;
    let fold = |number, byte: &u8| number << 8 | u64::from(*byte);
    Ok(part.iter().rev().fold(0, fold))
}

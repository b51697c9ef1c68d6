//! How do lines become a frame? Each frame is compressed by itself and carries
//! a checksum, so that it can be read whatever became of the others.

use std::io;

use zstd::{bulk::Compressor, zstd_safe::CParameter};

/// A frame holds at most so many bytes of lines, unless one line alone is longer.
pub(super) const FRAME: usize = 512 * 1024;

/// A longer line is not written: readers refuse it.
pub(super) const LINE: usize = 1024 * 1024;

/// Records are so much alike that the fastest level makes even smaller frames than
/// the default does, in two thirds of the time.
const LEVEL: i32 = 1;

/// The longest that zstd offers: what is shorter costs more than it saves, because
/// what differs between records is mostly digits.
const SHORTEST_MATCH: u32 = 7;

/// Makes frames.
pub(super) struct Encoder(Compressor<'static>);

impl Encoder {
    /// # Errors
    /// There is no memory for it, here and below.
    pub(super) fn new() -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.set_parameter(CParameter::MinMatch(SHORTEST_MATCH))?;
        Ok(Self(compressor))
    }

    /// One frame of whole lines.
    pub(super) fn encode(&mut self, lines: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stand_alone_and_side_by_side() -> io::Result<()> {
        let mut encoder = Encoder::new()?;
        let first = encoder.encode(b"{\"a\":1}\n{\"b\":2}\n")?;
        let second = encoder.encode(b"{\"c\":3}\n")?;
        assert_eq!(zstd::stream::decode_all(&second[..])?, b"{\"c\":3}\n");
        let both = [first, second].concat();
        assert_eq!(
            zstd::stream::decode_all(&both[..])?,
            b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n"
        );
        Ok(())
    }

    #[test]
    fn a_flipped_bit_is_noticed() -> io::Result<()> {
        let lines: Vec<u8> = (0..2000)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        let frame = Encoder::new()?.encode(&lines)?;
        for at in (0..frame.len()).step_by(97) {
            let mut broken = frame.clone();
            broken[at] ^= 1;
            let read = zstd::stream::decode_all(&broken[..]);
            assert!(
                read.is_err() || read.is_ok_and(|read| read == lines),
                "{at}"
            );
        }
        Ok(())
    }
}

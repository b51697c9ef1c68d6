//! The next whole, undamaged frame, whatever lies before it.

use std::io::{self, Read};

use zstd::zstd_safe::{DCtx, zstd_sys::ZSTD_ErrorCode};

use super::{
    Damage, MAX_FRAME, MAX_LINE,
    boundary::{self, Boundary, MAGIC},
    input::Input,
};

/// How many bytes may be decoded in vain before what claims to be a frame is skipped
/// as a whole. Until then every byte in it is a place where the next frame may begin,
/// and a file that was made for it has a frame of megabytes begin every few bytes.
pub(super) const IN_VAIN: u64 = 64 << 20;

/// Decodes frames.
#[derive(Default)]
pub(super) struct Frames {
    /// Made when the first frame is decoded.
    decoder: Option<Decoder>,
    /// How many bytes the frame holds.
    length: usize,
    /// Where the frames could not be followed any more.
    lost: Option<Lost>,
    /// Bytes that were decoded and turned out to be bad.
    pub(super) in_vain: u64,
}

struct Decoder {
    context: DCtx<'static>,
    /// Memory that no frame has needed yet is not really there.
    content: Box<[u8]>,
}

/// A search for the next frame.
#[derive(Clone, Copy)]
struct Lost {
    why: Why,
    /// Skipped so far.
    bytes: u64,
}

/// Why a frame cannot be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Reading began somewhere in the file, on purpose.
    Begun,
    /// The input ends in it, or no frame begins here.
    Torn,
    Corrupt,
    Refused,
}

/// What [`Frames::look`] found.
enum Found {
    /// A frame, now decoded.
    Frame,
    Skippable(u64),
    End,
    /// Nothing usable. With a length, if it seems to be known where that ends.
    Bad(Why, Option<usize>),
}

impl Frames {
    /// For an input that begins somewhere in a file.
    pub(super) fn within() -> Self {
        Self {
            lost: Some(Lost {
                why: Why::Begun,
                bytes: 0,
            }),
            ..Self::default()
        }
    }

    /// What the frame holds.
    pub(super) fn content(&self) -> &[u8] {
        let content = self.decoder.as_ref().map(|decoder| &decoder.content);
        content
            .and_then(|content| content.get(..self.length))
            .unwrap_or_default()
    }

    /// Goes to the next frame; false: there is none.
    pub(super) fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        damage: &mut Damage,
    ) -> io::Result<bool> {
        self.length = 0;
        loop {
            if let Some(lost) = &mut self.lost {
                lost.bytes += input.skip_to(&MAGIC)?;
            }
            match self.look(input)? {
                Found::Frame => {
                    if let Some(Lost { why, bytes }) = self.lost.take() {
                        count(damage, why, bytes);
                    }
                    return Ok(true);
                }
                Found::Skippable(length) => {
                    let skipped = input.skip_far(length)?;
                    if skipped < length {
                        damage.torn_bytes += skipped;
                    }
                }
                Found::End => {
                    match self.lost.take() {
                        Some(Lost {
                            why: Why::Torn,
                            bytes,
                        }) => damage.torn_bytes += bytes,
                        Some(Lost { why, bytes }) => count(damage, why, bytes),
                        None => {}
                    }
                    return Ok(false);
                }
                Found::Bad(why, length) => self.lose(input, damage, why, length)?,
            }
        }
    }

    fn look<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<Found> {
        loop {
            return Ok(match boundary::find(input.bytes()) {
                Boundary::Needs(wanted) if input.fill(wanted)? => continue,
                Boundary::Needs(_) if input.bytes().is_empty() => Found::End,
                Boundary::Needs(_) | Boundary::Nothing => Found::Bad(Why::Torn, None),
                Boundary::Corrupt => Found::Bad(Why::Corrupt, None),
                Boundary::Refused => Found::Bad(Why::Refused, None),
                Boundary::Skippable(length) => Found::Skippable(length),
                Boundary::Frame(length) => {
                    let frame = input.bytes().get(..length).unwrap_or_default();
                    match self.decode(frame)? {
                        Ok(()) => {
                            input.skip(length);
                            Found::Frame
                        }
                        Err(why) => {
                            self.in_vain += length as u64;
                            Found::Bad(why, Some(length))
                        }
                    }
                }
            });
        }
    }

    /// Skips what is bad: all of it if another frame or the end follows or patience
    /// has ended, or else up to the next frame that can be decoded.
    fn lose<R: Read>(
        &mut self,
        input: &mut Input<R>,
        damage: &mut Damage,
        why: Why,
        length: Option<usize>,
    ) -> io::Result<()> {
        if let (Some(length), None) = (length, self.lost) {
            input.fill(length + MAGIC.len())?;
            let follows = input.bytes().get(length..).unwrap_or_default();
            if follows.is_empty() || follows.starts_with(&MAGIC) {
                count(damage, why, length as u64);
                input.skip(length);
                return Ok(());
            }
        }
        let skipped = length.filter(|_| self.in_vain > IN_VAIN).unwrap_or(1);
        input.skip(skipped);
        self.lost.get_or_insert(Lost { why, bytes: 0 }).bytes += skipped as u64;
        Ok(())
    }

    /// Decodes one frame and checks its checksum; outer error: no memory.
    fn decode(&mut self, frame: &[u8]) -> io::Result<Result<(), Why>> {
        const TOO_LARGE: usize =
            (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();
        self.length = 0;
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => self.decoder.insert(Decoder::new()?),
        };
        match decoder.context.decompress(&mut *decoder.content, frame) {
            Ok(length) if has_long_line(decoder.content.get(..length)) => Ok(Err(Why::Refused)),
            Ok(length) => {
                self.length = length;
                Ok(Ok(()))
            }
            Err(TOO_LARGE) => Ok(Err(Why::Refused)),
            Err(_) => Ok(Err(Why::Corrupt)),
        }
    }
}

impl Decoder {
    fn new() -> io::Result<Self> {
        Ok(Self {
            context: DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?,
            content: vec![0; MAX_FRAME].into_boxed_slice(),
        })
    }
}

fn has_long_line(content: Option<&[u8]>) -> bool {
    let content = content.unwrap_or_default();
    let ends = memchr::memchr_iter(b'\n', content).chain([content.len()]);
    let mut begin = 0;
    ends.into_iter().any(|end| {
        let length = end - begin;
        begin = end + 1;
        length > MAX_LINE
    })
}

fn count(damage: &mut Damage, why: Why, bytes: u64) {
    if why != Why::Begun {
        damage.skipped_bytes += bytes;
    }
    match why {
        Why::Begun => {}
        Why::Refused => damage.refused_frames += 1,
        Why::Torn | Why::Corrupt => damage.corrupt_frames += 1,
    }
}

//! Which lines does a capture file hold?
//!
//! Nothing in a file is trusted. The lines of a frame are handed out once the
//! whole frame is there and its checksum is right; what is damaged is skipped
//! and counted. Memory is bounded, whatever a file says about itself.

mod boundary;
mod frames;
mod input;
mod plain;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Read},
    ops::Range,
};

use boundary::MAGIC;
use frames::Frames;
use input::Input;

pub(crate) use super::damage::{Damage, is_object, object};

/// What a frame may decompress to. tracer's own hold 512 KiB and a line.
pub(crate) const MAX_FRAME: usize = 4 << 20;

/// The longest line that is read.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Reads the lines of a capture, or of JSON Lines as they are.
pub(crate) struct Reader<R> {
    input: Input<R>,
    format: Option<Format>,
    frames: Frames,
    /// The line that is handed out.
    line: Range<usize>,
    /// Where the next one begins.
    next: usize,
    begins_with_frame: bool,
    damage: Damage,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Frames,
    Plain,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input: Input::new(input),
            format: None,
            frames: Frames::default(),
            line: 0..0,
            next: 0,
            begins_with_frame: false,
            damage: Damage::default(),
        }
    }

    /// Begins somewhere in a file of frames, with the next whole one.
    pub(crate) fn within(input: R) -> Self {
        Self {
            format: Some(Format::Frames),
            frames: Frames::within(),
            ..Self::new(input)
        }
    }

    /// The next line without its `\n`, exactly as it was written; nobody has
    /// looked yet whether it is a record.
    ///
    /// # Errors
    /// The input cannot be read. Damage is no error.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        Ok(self.advance()?.then(|| self.line()))
    }

    /// Goes to the next line; false: there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let format = match self.format {
            Some(format) => format,
            None => {
                self.input.fill(64)?;
                self.begins_with_frame = is_magic(self.input.bytes());
                *self.format.insert(detect(self.input.bytes()))
            }
        };
        match format {
            Format::Frames => self.advance_in_frames(),
            Format::Plain => self.advance_in_plain(),
        }
    }

    /// The same line again.
    pub(crate) fn line(&self) -> &[u8] {
        let bytes = match self.format {
            Some(Format::Plain) => self.input.bytes(),
            _ => self.frames.content(),
        };
        bytes.get(self.line.clone()).unwrap_or_default()
    }

    /// What could not be read so far.
    pub(crate) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Whether the first bytes are those of a frame.
    pub(crate) fn begins_with_frame(&self) -> bool {
        self.begins_with_frame
    }

    fn advance_in_frames(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.frames.content().get(self.next..).unwrap_or_default();
            if !rest.is_empty() {
                let newline = memchr::memchr(b'\n', rest);
                let end = self.next + newline.unwrap_or(rest.len());
                self.line = self.next..end;
                self.next = end + 1;
                return Ok(true);
            }
            if !self.frames.next(&mut self.input, &mut self.damage)? {
                return Ok(false);
            }
            self.next = 0;
        }
    }

    fn advance_in_plain(&mut self) -> io::Result<bool> {
        self.input.skip(self.next);
        self.next = 0;
        let Some(line) = plain::next(&mut self.input, &mut self.damage)? else {
            return Ok(false);
        };
        self.line = 0..line.length;
        self.next = line.with_end;
        Ok(true)
    }
}

/// JSON Lines begin with an object; all else is searched for frames, so that a
/// file whose first bytes are damaged is read as well.
fn detect(first: &[u8]) -> Format {
    let mut visible = first.iter().filter(|byte| !byte.is_ascii_whitespace());
    if visible.next() == Some(&b'{') && matches!(visible.next(), Some(b'"' | b'}')) {
        Format::Plain
    } else {
        Format::Frames
    }
}

/// Whether a frame begins here, even if it was cut at once.
fn is_magic(first: &[u8]) -> bool {
    let length = first.len().min(MAGIC.len());
    length > 0 && first.get(..length) == MAGIC.get(..length)
}

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
mod tests;

use std::{
    io::{self, Read},
    ops::Range,
};

use serde_json::Value;

use frames::Frames;
use input::Input;

/// What a frame may decompress to. tracer's own hold 256 KiB and a line.
pub(crate) const MAX_FRAME: usize = 4 << 20;

/// The longest line that is read.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Bytes at the end that make no whole frame, or no whole line.
    pub(crate) torn_bytes: u64,
    /// Places where frames are damaged.
    pub(crate) corrupt_frames: u64,
    /// Bytes of the file that were skipped there, and for refused frames.
    pub(crate) skipped_bytes: u64,
    /// Frames that are too large, hold a line that is too long, or have no
    /// checksum.
    pub(crate) refused_frames: u64,
    /// Lines that are no JSON object, or too long.
    pub(crate) bad_lines: u64,
}

impl Damage {
    /// Parses a line, or counts it.
    pub(crate) fn parse(&mut self, line: &[u8]) -> Option<Value> {
        let value = serde_json::from_slice(line).ok().filter(Value::is_object);
        if value.is_none() {
            self.bad_lines += 1;
        }
        value
    }
}

/// Reads the lines of a capture, or of JSON Lines as they are.
pub(crate) struct Reader<R> {
    input: Input<R>,
    format: Option<Format>,
    frames: Frames,
    /// The line that is handed out.
    line: Range<usize>,
    /// Where the next one begins.
    next: usize,
    /// Lines and whole frames so far.
    understood: u64,
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
            understood: 0,
            damage: Damage::default(),
        }
    }

    /// The next line without its `\n`, exactly as it was written.
    ///
    /// # Errors
    /// The input cannot be read. Damage is no error.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        Ok(self.advance()?.then(|| self.line()))
    }

    /// Goes to the next line; false: there is none.
    ///
    /// # Errors
    /// As for [`Self::next_line`].
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        let format = match self.format {
            Some(format) => format,
            None => *self.format.insert(detect(&mut self.input)?),
        };
        match format {
            Format::Frames => self.advance_in_frames(),
            Format::Plain => self.advance_in_plain(),
        }
    }

    /// The line that [`Self::advance`] went to.
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

    /// Whether anything so far was what a capture holds.
    pub(crate) fn is_capture(&self) -> bool {
        self.understood > 0
    }

    fn advance_in_frames(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.frames.content().get(self.next..).unwrap_or_default();
            if !rest.is_empty() {
                let newline = rest.iter().position(|byte| *byte == b'\n');
                let end = self.next + newline.unwrap_or(rest.len());
                self.line = self.next..end;
                self.next = end + 1;
                return Ok(true);
            }
            if !self.frames.next(&mut self.input, &mut self.damage)? {
                return Ok(false);
            }
            self.next = 0;
            self.understood += 1;
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
        self.understood += 1;
        Ok(true)
    }
}

/// JSON Lines begin with an object; all else is searched for frames, so that a
/// file whose first bytes are damaged is read as well.
fn detect(input: &mut Input<impl Read>) -> io::Result<Format> {
    input.fill(64)?;
    let mut visible = input
        .bytes()
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    let is_object = visible.next() == Some(&b'{') && matches!(visible.next(), Some(b'"' | b'}'));
    Ok(if is_object {
        Format::Plain
    } else {
        Format::Frames
    })
}

//! Bytes that were read and not used yet.

use std::io::{self, ErrorKind, Read};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

pub(super) struct Input<R> {
    from: R,
    buffer: Vec<u8>,
    /// Used up to here.
    start: usize,
    is_at_end: bool,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            start: 0,
            is_at_end: false,
        }
    }

    /// What was read and not skipped.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Reads until there are `wanted` bytes; false: the input ends before.
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.bytes().len() < wanted {
            if !self.read()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a chunk; false: the input has ended.
    fn read(&mut self) -> io::Result<bool> {
        // Once per chunk at most, so that no byte is moved often.
        if self.start >= CHUNK {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        while !self.is_at_end {
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK, 0);
            let space = self.buffer.get_mut(before..).unwrap_or_default();
            let read = self.from.read(space);
            self.buffer
                .truncate(before + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => self.is_at_end = true,
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Skips bytes that were read.
    pub(super) fn skip(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
    }

    /// Skips that many bytes, read or not; returns how many there were.
    pub(super) fn skip_far(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        loop {
            let here = self.bytes().len();
            let now = usize::try_from(left).map_or(here, |left| left.min(here));
            self.skip(now);
            left -= now as u64;
            if left == 0 || !self.read()? {
                return Ok(count - left);
            }
        }
    }

    /// Skips to where `wanted` begins, or to the end; returns how far that is.
    pub(super) fn skip_to(&mut self, wanted: &[u8]) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let bytes = self.bytes();
            let found = bytes.windows(wanted.len()).position(|part| part == wanted);
            // The last few bytes may be its beginning.
            let possible = bytes.len().saturating_sub(wanted.len() - 1);
            let now = found.unwrap_or(possible);
            self.skip(now);
            skipped += now as u64;
            if found.is_some() {
                return Ok(skipped);
            }
            if !self.read()? {
                let rest = self.bytes().len();
                self.skip(rest);
                return Ok(skipped + rest as u64);
            }
        }
    }
}

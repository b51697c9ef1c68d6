//! Lines that are not compressed.

use std::io::{self, Read};

use serde_json::Value;

use super::{Damage, MAX_LINE, input::Input};

/// A line at the beginning of the input.
pub(super) struct Line {
    pub(super) length: usize,
    /// With its `\n`.
    pub(super) with_end: usize,
}

/// Finds the next line that is not too long; too long ones are counted.
pub(super) fn next<R: Read>(input: &mut Input<R>, damage: &mut Damage) -> io::Result<Option<Line>> {
    loop {
        if let Some(length) = newline(input)? {
            let with_end = length + 1;
            return Ok(Some(Line { length, with_end }));
        }
        if input.bytes().len() <= MAX_LINE {
            return Ok(last(input, damage));
        }
        damage.bad_lines += 1;
        damage.skipped_bytes += input.skip_to(b"\n")?;
        damage.skipped_bytes += input.skip_far(1)?;
    }
}

/// Where the line ends; `None`: too far away, or nowhere.
fn newline<R: Read>(input: &mut Input<R>) -> io::Result<Option<usize>> {
    let mut searched = 0;
    loop {
        let new = input.bytes().get(searched..).unwrap_or_default();
        if let Some(found) = memchr::memchr(b'\n', new) {
            let length = searched + found;
            return Ok((length <= MAX_LINE).then_some(length));
        }
        searched += new.len();
        if searched > MAX_LINE || !input.fill(searched + 1)? {
            return Ok(None);
        }
    }
}

/// The last line, if it lacks its `\n`: a cut object is no object.
fn last<R: Read>(input: &mut Input<R>, damage: &mut Damage) -> Option<Line> {
    let length = input.bytes().len();
    if length == 0 {
        return None;
    }
    if serde_json::from_slice::<Value>(input.bytes()).is_ok_and(|value| value.is_object()) {
        let with_end = length;
        return Some(Line { length, with_end });
    }
    damage.torn_bytes += length as u64;
    input.skip(length);
    None
}

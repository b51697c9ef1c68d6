//! When was the last record of a file made? Its end tells, without all that is
//! before.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use jiff::Timestamp;

use super::{super::read::Reader, time};

/// So much of the end is read first: a few frames.
const END: u64 = 128 << 10;

/// How much more is read if no time was in it.
const MORE: u64 = 16;

/// The latest time of the records at the end. `None`: no record has one.
pub(super) fn time_in(path: &Path) -> io::Result<Option<Timestamp>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut first = [0];
    let is_plain = file.read(&mut first)? == 1 && first == *b"{";
    let mut size = END;
    loop {
        let at = length.saturating_sub(size);
        file.seek(SeekFrom::Start(at))?;
        let last = if at == 0 {
            latest(Reader::new(&file))?
        } else if is_plain {
            let mut lines = BufReader::new(&file);
            lines.skip_until(b'\n')?;
            latest(Reader::new(lines))?
        } else {
            latest(Reader::within(&file))?
        };
        if last.is_some() || at == 0 {
            return Ok(last);
        }
        size = size.saturating_mul(MORE);
    }
}

/// Records are not quite in the order of their times.
fn latest<R: Read>(mut reader: Reader<R>) -> io::Result<Option<Timestamp>> {
    let mut last = None;
    while let Some(line) = reader.next_line()? {
        let record = serde_json::from_slice(line).unwrap_or_default();
        last = last.max(time(&record));
    }
    Ok(last)
}

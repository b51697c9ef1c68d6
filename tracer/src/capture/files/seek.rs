//! Where in a file do the records of a moment begin? Frames stand alone and
//! follow each other in time, so a few looks into the middle are enough.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    path::Path,
};

use jiff::{SignedDuration, Timestamp};

use super::{super::read::Reader, time};

/// Records are not quite in the order of their times.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// What is not worth another look.
const NEAR: u64 = 1 << 20;

/// The file, so far forward that no record of `begin` or later is missed.
/// `None`: it is to be read from where it is.
pub(super) fn near(path: &Path, begin: Timestamp) -> io::Result<Option<File>> {
    // Whatever it is, it is open already; a pipe must not be opened again.
    if !path.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let wanted = begin.saturating_sub(SLACK).unwrap_or(begin);
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(middle))?;
        match first_time(&file)? {
            Some(first) if first < wanted => low = middle,
            _ => high = middle,
        }
    }
    file.seek(SeekFrom::Start(low))?;
    Ok((low > 0).then_some(file))
}

/// The time of the first record from here on.
fn first_time(file: &File) -> io::Result<Option<Timestamp>> {
    let mut reader = Reader::within(file);
    while let Some(line) = reader.next_line()? {
        let record = serde_json::from_slice(line).unwrap_or_default();
        if let Some(first) = time(&record) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

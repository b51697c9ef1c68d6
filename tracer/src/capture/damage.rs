//! What of a capture could not be read?

use serde_json::Value;

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

/// A line as a record.
pub(crate) fn object(line: &[u8]) -> Option<Value> {
    let value = serde_json::from_slice(line).ok();
    value.filter(Value::is_object)
}

impl Damage {
    /// Reads a line as a record, or counts it.
    pub(crate) fn parse<T>(&mut self, line: &[u8], parse: fn(&[u8]) -> Option<T>) -> Option<T> {
        let record = parse(line);
        if record.is_none() {
            self.bad_lines += 1;
        }
        record
    }

    /// Adds what another file lacks.
    pub(crate) fn add(&mut self, other: &Self) {
        self.torn_bytes += other.torn_bytes;
        self.corrupt_frames += other.corrupt_frames;
        self.skipped_bytes += other.skipped_bytes;
        self.refused_frames += other.refused_frames;
        self.bad_lines += other.bad_lines;
    }

    /// What is missing, for people.
    pub(crate) fn sentence(&self) -> String {
        let kinds = [
            (self.torn_bytes, "torn bytes at the end"),
            (self.corrupt_frames, "damaged frames"),
            (
                self.refused_frames,
                "refused frames (too large, or without a checksum)",
            ),
            (self.skipped_bytes, "bytes skipped"),
            (self.bad_lines, "lines that are no records"),
        ];
        let told: Vec<_> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{what}: {count}"))
            .collect();
        format!("not everything could be read ({})", told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_counted() {
        let mut damage = Damage::default();
        assert!(damage.parse(b"{\"v\":1}", object).is_some());
        let deep = b"[".repeat(100_000);
        for bad in [&b""[..], b"1", b"[]", b"{", b"{}{}", b"\xff", &deep] {
            assert!(damage.parse(bad, object).is_none());
        }
        assert_eq!(damage.bad_lines, 7);
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut damage = Damage {
            torn_bytes: 17,
            ..Damage::default()
        };
        damage.add(&Damage {
            corrupt_frames: 1,
            skipped_bytes: 300,
            ..Damage::default()
        });
        assert_eq!(
            damage.sentence(),
            "not everything could be read (torn bytes at the end: 17, damaged frames: 1, bytes skipped: 300)"
        );
    }
}

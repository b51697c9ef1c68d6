//! What of a capture could not be read?

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
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

/// Whether [`object`] would take a line; for who wants nothing of it but the line.
pub(crate) fn is_object(line: &[u8]) -> Option<()> {
    let begins = line.iter().find(|byte| !byte.is_ascii_whitespace());
    let sound = serde_json::from_slice::<Sound>(line).is_ok();
    (begins == Some(&b'{') && sound).then_some(())
}

/// Any JSON, as strictly read as [`Value`], which serde's own `IgnoredAny` is not,
/// and not kept.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

impl Damage {
    /// Reads a line as a record, or counts it.
    pub(crate) fn parse<T>(
        &mut self,
        line: &[u8],
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
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

    /// Both ways of reading take and refuse the same, whatever a line holds.
    #[test]
    fn two_ways_of_reading_agree() {
        let line = br#"  {"v":1,"a":[null,true,-1,1.5e3,{"b\u00e9":"\n\ud83d\ude00"}],"":"x"} "#;
        let agree = |line: &[u8]| {
            let (kept, checked) = (object(line).is_some(), is_object(line).is_some());
            assert_eq!(kept, checked, "{:?}", String::from_utf8_lossy(line));
            checked
        };
        assert!(agree(line));
        let replacements = b"\0\t\"\\{}[],:x09.e+-\x7f\x80\xc3\xff";
        let mut taken = 0;
        for at in 0..line.len() {
            agree(&line[..at]);
            for byte in replacements {
                let mut other = line.to_vec();
                other[at] = *byte;
                taken += usize::from(agree(&other));
            }
        }
        assert!(taken > 100, "{taken}");
        for depth in [126, 127, 128, 129, 100_000] {
            let deep = [
                &b"{\"a\":"[..],
                &b"[".repeat(depth),
                &b"]".repeat(depth),
                b"}",
            ];
            agree(&deep.concat());
        }
        for line in [
            "{\"a\":1e999}",
            "{1:2}",
            "{\"a\":1,\"a\":2}",
            "{} {}",
            "\u{feff}{}",
            "[{}]",
        ] {
            agree(line.as_bytes());
        }
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

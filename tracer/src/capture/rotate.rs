//! When does a capture go on in another file, and what is it called? Pure.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// When to begin another file; without size and period there is only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// A file that would grow beyond this many bytes is followed by another.
    pub(crate) size: Option<u64>,
    /// So is one that is older than this.
    pub(crate) period: Option<Duration>,
    /// At most so many files are kept: the oldest makes room for the next.
    pub(crate) count: Option<NonZeroU32>,
}

impl Rotation {
    /// Whether there may be more than one file.
    pub(crate) fn is_on(self) -> bool {
        self.size.is_some() || self.period.is_some()
    }

    /// Whether a frame belongs into the next file; `length` and `age` are those of
    /// the present one.
    pub(super) fn is_due(self, length: u64, frame: u64, age: Duration) -> bool {
        self.size
            .is_some_and(|size| length.saturating_add(frame) > size)
            || self.period.is_some_and(|period| age >= period)
    }

    /// The name of the `number`th file, counted from 0. In a ring all numbers have
    /// the same width; else the first file has none.
    pub(super) fn name(self, path: &Path, number: u64) -> PathBuf {
        let number = match self.count {
            Some(count) => {
                let width = (count.get() - 1).to_string().len();
                let number = number % u64::from(count.get());
                format!("{number:0width$}")
            }
            None if number == 0 => return path.to_owned(),
            None => number.to_string(),
        };
        let mut name = OsString::from(path);
        name.push(number);
        name.into()
    }
}

/// Parses `100`, `64k`, `10MB`, `1GiB`. As with tcpdump a plain number counts
/// millions of bytes, and k, m and g stand for powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const WHY: &str =
        "expected a number of megabytes, or one with k, M, G, kB, MB, GB, KiB, MiB or GiB";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "kb" => 1_000,
        "" | "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(WHY.into()),
    };
    let number: u64 = number.parse().map_err(|_| WHY)?;
    match number.checked_mul(unit) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err("expected at least one byte, and fewer than 2^64".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_tcpdump() {
        let names = |count, numbers: &[u64]| {
            let rotation = Rotation {
                count: NonZeroU32::new(count),
                ..Rotation::default()
            };
            let name = |number: &u64| rotation.name(Path::new("d/x.zst"), *number);
            let names = numbers.iter().map(name);
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0, &[0, 1, 10]), ["d/x.zst", "d/x.zst1", "d/x.zst10"]);
        assert_eq!(names(1, &[0, 1]), ["d/x.zst0", "d/x.zst0"]);
        assert_eq!(names(10, &[0, 9, 10]), ["d/x.zst0", "d/x.zst9", "d/x.zst0"]);
        assert_eq!(
            names(11, &[0, 10, 11]),
            ["d/x.zst00", "d/x.zst10", "d/x.zst00"]
        );
    }

    #[test]
    fn when_the_next_file_is_due() {
        let second = Duration::from_secs(1);
        let none = Rotation::default();
        assert!(!none.is_on() && !none.is_due(u64::MAX, u64::MAX, Duration::MAX));
        let by_size = Rotation {
            size: Some(100),
            ..none
        };
        assert!(!by_size.is_due(90, 10, Duration::MAX));
        assert!(by_size.is_due(90, 11, Duration::ZERO));
        let by_age = Rotation {
            period: Some(second),
            ..none
        };
        assert!(by_age.is_due(0, 0, second));
        assert!(!by_age.is_due(u64::MAX, 1, second / 2));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1_000_000),
            ("64k", 65_536),
            ("64K", 65_536),
            ("2M", 2 << 20),
            ("2MiB", 2 << 20),
            ("2MB", 2_000_000),
            ("1g", 1 << 30),
            ("1GB", 1_000_000_000),
            ("3kB", 3_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "0",
            "k",
            "-1",
            "1.5M",
            "1 M",
            "1T",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}

//! What is true of every capture: files made of anything, damaged anywhere.

use std::io;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// A part of a file.
#[derive(Clone, Debug)]
enum Part {
    /// A frame with these lines.
    Lines(Vec<String>),
    /// Bytes that are no frame, nor the beginning of one.
    Noise(Vec<u8>),
    /// A skippable frame.
    Skippable(u8, Vec<u8>),
    /// A frame without a checksum.
    Unchecked(Vec<String>),
    /// A frame with a wrong checksum.
    Corrupt(Vec<String>),
}

/// What a part is in a file, and what has to be read of it.
struct Made {
    bytes: Vec<u8>,
    lines: Vec<Vec<u8>>,
    is_bad: bool,
}

fn frame(lines: &[String], has_checksum: bool) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
    encoder.include_checksum(has_checksum)?;
    for line in lines {
        io::Write::write_all(&mut encoder, line.as_bytes())?;
        io::Write::write_all(&mut encoder, b"\n")?;
    }
    encoder.finish()
}

impl Part {
    fn make(&self) -> io::Result<Made> {
        let (bytes, lines, is_bad) = match self {
            Self::Lines(lines) => (frame(lines, true)?, lines.clone(), false),
            Self::Noise(bytes) => (bytes.clone(), Vec::new(), !bytes.is_empty()),
            Self::Skippable(kind, content) => {
                let magic = 0x184D_2A50 | u32::from(*kind);
                let length = u32::try_from(content.len()).unwrap_or_default();
                let head = [magic.to_le_bytes(), length.to_le_bytes()].concat();
                ([head, content.clone()].concat(), Vec::new(), false)
            }
            Self::Unchecked(lines) => (frame(lines, false)?, Vec::new(), true),
            Self::Corrupt(lines) => {
                let mut bytes = frame(lines, true)?;
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                (bytes, Vec::new(), true)
            }
        };
        Ok(Made {
            bytes,
            lines: lines.into_iter().map(String::into_bytes).collect(),
            is_bad,
        })
    }
}

/// Records, and what is none: any text without an end of line.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let record = r#"\{"v":1,"type":"[a-z]{1,9}","n":[0-9]{1,5}\}"#;
    vec(prop_oneof![3 => record, 1 => "[^\n]{0,40}"], 0..6)
}

/// Without the byte that frames begin with, and the one that skippable ones do.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let harmless = any::<u8>().prop_filter("a frame begins", |byte| {
        *byte != MAGIC[0] && !(0x50..=0x5F).contains(byte)
    });
    vec(harmless, 0..50)
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        6 => lines().prop_map(Part::Lines),
        1 => noise().prop_map(Part::Noise),
        1 => (0..16_u8, vec(any::<u8>(), 0..50)).prop_map(|(kind, bytes)| Part::Skippable(kind, bytes)),
        1 => lines().prop_map(Part::Unchecked),
        1 => lines().prop_map(Part::Corrupt),
    ]
}

/// A file that begins as a capture does, so that noise is not taken for JSON Lines.
fn file() -> impl Strategy<Value = Vec<Part>> {
    vec(part(), 0..10).prop_map(|mut parts| {
        parts.insert(0, Part::Lines(vec!["{\"v\":1}".to_owned()]));
        parts
    })
}

fn make(parts: &[Part]) -> io::Result<Vec<Made>> {
    parts.iter().map(Part::make).collect()
}

/// Yields what others want, in pieces of these sizes.
struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.1.next().copied().unwrap_or(1).min(into.len());
        self.0.read(into.get_mut(..size).unwrap_or_default())
    }
}

type Lines = Vec<Vec<u8>>;

fn read(mut reader: Reader<impl Read>) -> io::Result<(Lines, Damage)> {
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line.to_vec());
    }
    Ok((lines, *reader.damage()))
}

fn told(damage: &Damage) -> u64 {
    damage.torn_bytes + damage.skipped_bytes
}

/// Whether `some` are `all` of which some may be missing.
fn is_subset_in_order(some: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let mut all = all.iter();
    some.iter().all(|line| all.any(|other| other == line))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every whole frame is read back, nothing else is, and what is told to be
    /// damaged is exactly the rest.
    #[test]
    fn whole_frames_are_read_and_the_rest_is_told(parts in file(), sizes in vec(1..5000_usize, 1..4)) {
        let made = make(&parts)?;
        let bytes: Vec<u8> = made.iter().flat_map(|made| made.bytes.clone()).collect();
        let expected: Lines = made.iter().flat_map(|made| made.lines.clone()).collect();
        let bad = made.iter().filter(|made| made.is_bad);
        let bad: usize = bad.map(|made| made.bytes.len()).sum();
        let (lines, damage) = read(Reader::new(Pieces(&bytes, sizes.iter().cycle())))?;
        // A skippable frame right behind noise is noise.
        let mut is_lost = false;
        let mut skipped = 0;
        for (part, made) in parts.iter().zip(&made) {
            match part {
                Part::Skippable(..) if is_lost => skipped += made.bytes.len(),
                Part::Noise(bytes) if bytes.is_empty() => {}
                _ => is_lost = made.is_bad,
            }
        }
        prop_assert_eq!(&lines, &expected);
        prop_assert!(told(&damage) >= bad as u64, "{:?} of {}", damage, bad);
        prop_assert!(told(&damage) <= (bad + skipped) as u64, "{:?} of {}+{}", damage, bad, skipped);
        prop_assert_eq!((damage, lines), { let (lines, damage) = read(Reader::new(&bytes[..]))?; (damage, lines) });
    }

    /// Cut anywhere: the frames before are whole, the rest is torn.
    #[test]
    fn a_cut_costs_what_is_behind_it(frames in vec(lines(), 1..8), cut in any::<Index>()) {
        let made = make(&frames.into_iter().map(Part::Lines).collect::<Vec<_>>())?;
        let bytes: Vec<u8> = made.iter().flat_map(|made| made.bytes.clone()).collect();
        let cut = cut.index(bytes.len() + 1);
        let mut whole = 0;
        let mut expected = Lines::new();
        for made in &made {
            if whole + made.bytes.len() > cut {
                break;
            }
            whole += made.bytes.len();
            expected.extend_from_slice(&made.lines);
        }
        let (lines, damage) = read(Reader::new(&bytes[..cut]))?;
        let torn = Damage { torn_bytes: (cut - whole) as u64, ..Damage::default() };
        prop_assert_eq!((lines, damage), (expected, torn));
    }

    /// Bytes of a file overwritten: the frames before them are read back, none is
    /// invented, and no more is told to be damaged than there is.
    #[test]
    fn what_is_before_the_damage_is_there(
        frames in vec(lines(), 1..8), at in any::<Index>(), damage in vec(any::<u8>(), 1..80),
    ) {
        let made = make(&frames.into_iter().map(Part::Lines).collect::<Vec<_>>())?;
        let mut bytes: Vec<u8> = made.iter().flat_map(|made| made.bytes.clone()).collect();
        let at = at.index(bytes.len());
        let end = (at + damage.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&damage[..end - at]);
        let mut length = 0;
        let before = made.iter().take_while(|made| {
            length += made.bytes.len();
            length <= at
        });
        let before: Lines = before.flat_map(|made| made.lines.clone()).collect();
        let all: Lines = made.iter().flat_map(|made| made.lines.clone()).collect();
        // Noise that begins as JSON does is another file.
        prop_assume!(is_magic(&bytes));
        let (lines, told_damage) = read(Reader::new(&bytes[..]))?;
        prop_assert!(lines.starts_with(&before));
        prop_assert!(is_subset_in_order(&lines, &all));
        prop_assert!(told(&told_damage) <= bytes.len() as u64);
        prop_assert!(lines.len() == all.len() || told(&told_damage) > 0);
    }

    /// From anywhere in a file on, the next whole frames are read, and that reading
    /// began within one is no damage.
    #[test]
    fn reading_may_begin_anywhere(frames in vec(lines(), 1..8), at in any::<Index>()) {
        let made = make(&frames.into_iter().map(Part::Lines).collect::<Vec<_>>())?;
        let bytes: Vec<u8> = made.iter().flat_map(|made| made.bytes.clone()).collect();
        let at = at.index(bytes.len());
        let mut start = 0;
        let mut expected = Lines::new();
        for made in &made {
            if start >= at {
                expected.extend_from_slice(&made.lines);
            }
            start += made.bytes.len();
        }
        prop_assert_eq!(read(Reader::within(&bytes[at..]))?, (expected, Damage::default()));
    }

    /// Whatever bytes: an end is found, all lines are short enough, and no more is
    /// told to be damaged than there is.
    #[test]
    fn any_bytes_have_an_end(mut bytes in vec(any::<u8>(), 0..300), at in any::<Index>(), starts in 0..3) {
        for _ in 0..starts {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, MAGIC);
        }
        let (lines, damage) = read(Reader::new(&bytes[..]))?;
        prop_assert!(lines.iter().all(|line| line.len() <= MAX_LINE));
        prop_assert!(told(&damage) <= bytes.len() as u64);
    }
}

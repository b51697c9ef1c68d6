use std::io::Write;

use super::*;

/// A frame as the writer makes it.
fn frame(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    encoder.write_all(content)?;
    encoder.finish()
}

type Lines = Vec<Vec<u8>>;

/// All lines, and the damage.
fn read(input: impl Read) -> io::Result<(Lines, Damage)> {
    let mut reader = Reader::new(input);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line.to_vec());
    }
    Ok((lines, *reader.damage()))
}

/// Yields a byte at a time, and is interrupted between them.
struct Drops<'a>(&'a [u8], bool);

impl Read for Drops<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = into.len().min(1);
        self.0.read(into.get_mut(..length).unwrap_or_default())
    }
}

/// Numbers that look like chance, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll()).unwrap_or(usize::MAX) % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll().to_le_bytes()[3]).collect()
    }
}

/// A few frames, with the lines of each.
fn sample() -> io::Result<Vec<(Vec<u8>, Lines)>> {
    let mut dice = Dice(42);
    let mut sample = Vec::new();
    for number in 0..5 {
        let lines: Lines = (0..=dice.below(4))
            .map(|line| {
                let noise = dice.roll();
                format!(r#"{{"v":1,"type":"event","frame":{number},"line":{line},"x":{noise}}}"#)
            })
            .map(String::into_bytes)
            .collect();
        let content: Vec<u8> = lines
            .iter()
            .flat_map(|line| [line, &b"\n"[..]].concat())
            .collect();
        sample.push((frame(&content)?, lines));
    }
    Ok(sample)
}

fn file(sample: &[(Vec<u8>, Lines)]) -> (Vec<u8>, Lines) {
    let bytes = sample.iter().flat_map(|(frame, _)| frame.clone()).collect();
    let lines = sample.iter().flat_map(|(_, lines)| lines.clone()).collect();
    (bytes, lines)
}

/// Whether `some` are `all` of which some may be missing.
fn is_subset_in_order(some: &[Vec<u8>], all: &[Vec<u8>]) -> bool {
    let mut all = all.iter();
    some.iter().all(|line| all.any(|other| other == line))
}

#[test]
fn concatenated_frames_are_read() -> io::Result<()> {
    let file = [
        frame(b"{\"a\":1}\n{}\n")?,
        frame(b"")?,
        frame(b"{\"b\":2}\n")?,
    ]
    .concat();
    let (lines, damage) = read(file.as_slice())?;
    assert_eq!(lines, [b"{\"a\":1}".as_slice(), b"{}", b"{\"b\":2}"]);
    assert_eq!(damage, Damage::default());
    Ok(())
}

#[test]
fn it_does_not_matter_how_the_bytes_come() -> io::Result<()> {
    let (bytes, lines) = file(&sample()?);
    assert_eq!(read(Drops(&bytes, false))?, (lines, Damage::default()));
    Ok(())
}

#[test]
fn skippable_frames_are_skipped() -> io::Result<()> {
    let skippable = [
        &0x184D_2A5F_u32.to_le_bytes()[..],
        &3_u32.to_le_bytes(),
        b"abc",
    ]
    .concat();
    let file = [&skippable, &frame(b"{}\n")?, &skippable, &frame(b"{}\n")?]
        .map(Vec::clone)
        .concat();
    let (lines, damage) = read(file.as_slice())?;
    assert_eq!((lines.len(), damage), (2, Damage::default()));
    Ok(())
}

/// What is left of a file that was cut: the lines of its whole frames.
#[test]
fn cut_anywhere() -> io::Result<()> {
    let sample = sample()?;
    let (bytes, _) = file(&sample);
    for length in 0..bytes.len() {
        let (lines, damage) = read(bytes.get(..length).unwrap_or_default())?;
        let (mut whole, mut expected) = (0, Vec::new());
        for (frame, lines) in &sample {
            if whole + frame.len() > length {
                break;
            }
            whole += frame.len();
            expected.extend_from_slice(lines);
        }
        assert_eq!(lines, expected, "cut at {length}");
        let torn = Damage {
            torn_bytes: (length - whole) as u64,
            ..Damage::default()
        };
        assert_eq!(damage, torn, "cut at {length}");
    }
    Ok(())
}

/// A wrong bit costs the frame that it is in, and no other.
#[test]
fn a_wrong_bit_anywhere() -> io::Result<()> {
    let sample = sample()?;
    let (bytes, all) = file(&sample);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut wrong = bytes.clone();
            if let Some(byte) = wrong.get_mut(at) {
                *byte ^= 1 << bit;
            }
            let (lines, damage) = read(wrong.as_slice())?;
            let (mut start, mut expected) = (0, Vec::new());
            for (frame, lines) in &sample {
                if !(start..start + frame.len()).contains(&at) {
                    expected.extend_from_slice(lines);
                }
                start += frame.len();
            }
            if damage == Damage::default() {
                // The one bit of a header that means nothing.
                assert_eq!(lines, all, "bit {bit} of byte {at}");
                continue;
            }
            assert_eq!(lines, expected, "bit {bit} of byte {at}");
        }
    }
    Ok(())
}

/// Bytes missing, doubled, overwritten: no line is invented or comes early.
#[test]
fn damage_of_every_kind() -> io::Result<()> {
    let (bytes, all) = file(&sample()?);
    let mut dice = Dice(7);
    for _ in 0..3000 {
        let mut damaged = bytes.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(damaged.len());
            let end = (at + 1 + dice.below(60)).min(damaged.len());
            match dice.below(3) {
                0 => drop(damaged.drain(at..end)),
                1 => drop(damaged.splice(at..at, dice.bytes(end - at))),
                _ => drop(damaged.splice(at..end, dice.bytes(end - at))),
            }
        }
        let (lines, _) = read(damaged.as_slice())?;
        assert!(is_subset_in_order(&lines, &all), "{damaged:02x?}");
    }
    Ok(())
}

#[test]
fn noise_holds_nothing() -> io::Result<()> {
    let mut dice = Dice(99);
    for length in (0..4000).step_by(7) {
        let mut noise = dice.bytes(length);
        for _ in 0..dice.below(4) {
            let at = dice.below(length + 1);
            drop(noise.splice(at..at, boundary::MAGIC));
        }
        let mut reader = Reader::new(noise.as_slice());
        assert_eq!(reader.next_line()?, None, "{noise:02x?}");
    }
    Ok(())
}

/// A gigabyte of zeroes in frames that say nothing of their size.
fn bomb() -> Vec<u8> {
    let header = [&boundary::MAGIC[..], &[0x04, 0x70]].concat();
    let repeated = |is_last: u32| {
        let block = (128_u32 << 10) << 3 | 1 << 1 | is_last;
        let bytes = block.to_le_bytes();
        [bytes[0], bytes[1], bytes[2], 0]
    };
    let blocks = [repeated(0).repeat(8191), repeated(1).to_vec()].concat();
    [header, blocks, vec![0; 4]].concat()
}

#[test]
fn a_bomb_is_refused_and_reading_goes_on() -> io::Result<()> {
    let text = b"{\"a\":\"well packed, but more than anybody writes at once\"}\n".repeat(100_000);
    for bomb in [bomb(), frame(&vec![0; 16 << 20])?, frame(&text)?] {
        let file = [frame(b"{}\n")?, bomb.clone(), frame(b"{}\n")?].concat();
        let (lines, damage) = read(file.as_slice())?;
        assert_eq!(lines.len(), 2);
        let refused = Damage {
            refused_frames: 1,
            skipped_bytes: bomb.len() as u64,
            ..Damage::default()
        };
        assert_eq!(damage, refused);
    }
    Ok(())
}

#[test]
fn the_largest_frame_is_read_and_a_longer_line_is_not() -> io::Result<()> {
    let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
    let quarter = line(MAX_LINE - 1);
    let largest = frame(&quarter.repeat(4))?;
    assert_eq!(read(largest.as_slice())?.0.len(), 4);
    let too_long = frame(&line(MAX_LINE + 1))?;
    let (lines, damage) = read(too_long.as_slice())?;
    assert_eq!((lines.len(), damage.refused_frames), (0, 1));
    let noise = Dice(1).bytes(MAX_FRAME);
    let packed: Vec<u8> = noise
        .iter()
        .map(|byte| if *byte % 64 == 0 { b'\n' } else { *byte })
        .collect();
    assert_eq!(read(frame(&packed)?.as_slice())?.1, Damage::default());
    Ok(())
}

#[test]
fn without_a_checksum_nothing_is_believed() -> io::Result<()> {
    let unchecked = zstd::stream::encode_all(&b"{}\n"[..], 3)?;
    let (lines, damage) = read(unchecked.as_slice())?;
    assert_eq!((lines.len(), damage.refused_frames), (0, 1));
    Ok(())
}

#[test]
fn plain_lines_are_read() -> io::Result<()> {
    let (lines, damage) = read(&b"{\"a\":1}\nnonsense\n{}"[..])?;
    assert_eq!(lines, [b"{\"a\":1}".as_slice(), b"nonsense", b"{}"]);
    assert_eq!(damage, Damage::default());
    let (lines, damage) = read(&b" {\"a\":1}\n{\"b\":2"[..])?;
    assert_eq!((lines.len(), damage.torn_bytes), (1, 6));
    let long = [&b"{}\n"[..], &vec![b'x'; 3 * MAX_LINE], b"\n{}\n"].concat();
    let (lines, damage) = read(long.as_slice())?;
    assert_eq!((lines.len(), damage.bad_lines), (2, 1));
    assert_eq!(damage.skipped_bytes, 3 * MAX_LINE as u64 + 1);
    Ok(())
}

#[test]
fn nothing_is_read_from_nothing() -> io::Result<()> {
    let mut reader = Reader::new(io::empty());
    assert_eq!(reader.next_line()?, None);
    assert!(!reader.begins_with_frame());
    assert_eq!(*reader.damage(), Damage::default());
    Ok(())
}

/// Thousands of frames of megabytes, each within the one before, and none of them whole.
#[test]
fn frames_within_frames_are_not_all_tried() -> io::Result<()> {
    const BLOCK: usize = 128 << 10;
    // A frame begins every 16 bytes; what it holds ends with the block around it.
    let unit = |until_end: usize| {
        let raw = u32::try_from(until_end - 9).unwrap_or_default() << 3;
        let [a, b, c, _] = raw.to_le_bytes();
        let [m, n, o, p] = boundary::MAGIC;
        [m, n, o, p, 4, 0, a, b, c, 0, 0, 0, 0, 0, 0, 0]
    };
    let block: Vec<u8> = (0..BLOCK / 16)
        .flat_map(|at| unit(BLOCK - at * 16))
        .collect();
    let mut file = block.clone();
    let header = |is_last: usize| (BLOCK << 3 | is_last).to_le_bytes();
    for number in 1..400 {
        // Every 30 there is an end, with a checksum that is wrong.
        let is_last = number % 30 == 0;
        file.extend(&header(usize::from(is_last))[..3]);
        file.extend(&block);
        file.extend(if is_last { &[0; 4][..] } else { &[] });
    }
    let length = file.len() as u64;
    file.extend(frame(b"{\"a\":1}\n")?);
    let mut reader = Reader::new(&file[..]);
    let mut lines = 0;
    while reader.next_line()?.is_some() {
        lines += 1;
    }
    let in_vain = reader.frames.in_vain;
    assert!(in_vain > frames::IN_VAIN, "{in_vain}");
    assert!(
        in_vain < frames::IN_VAIN + length + MAX_FRAME as u64 * 2,
        "{in_vain}"
    );
    assert_eq!(lines, 1);
    assert!(reader.damage().corrupt_frames > 0);
    Ok(())
}

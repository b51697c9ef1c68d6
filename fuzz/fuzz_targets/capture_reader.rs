//! Any bytes as a capture: whatever is read of them was in a whole frame.
//!
//! The bytes are read as they are, and as the plan of a file that has frames
//! with right checksums in it: chance alone makes none.

#![no_main]

use std::collections::HashSet;
use std::io::{self, Read, Write};

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::{Capture, LONGEST_LINE, read};
use zstd::zstd_safe::{DCtx, find_frame_compressed_size};

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// What a frame may hold.
const LARGEST_FRAME: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&build(bytes));
});

fn check(file: &[u8]) {
    let whole = all(file);
    let told = whole.torn_bytes + whole.skipped_bytes;
    assert!(told <= file.len() as u64, "more damage than file: {told}");
    // Single bytes of a small file, not much more pieces of a large one.
    for size in [1 + file.len() / 256, 4096] {
        let again = all(Pieces(file, size));
        assert!(again == whole, "in pieces of {size}: {again:?}");
    }
    if whole.lines.is_empty() {
        return;
    }
    let contents = possible(file);
    let contents = contents.iter().map(Vec::as_slice);
    let possible: HashSet<&[u8]> = contents
        .flat_map(|content| content.split(|byte| *byte == b'\n'))
        .collect();
    for line in &whole.lines {
        assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
        assert!(!line.contains(&b'\n'));
        assert!(
            possible.contains(&line[..]),
            "invented: {}",
            line.escape_ascii()
        );
    }
}

fn all(input: impl Read) -> Capture {
    read(input).expect("bytes in memory can be read")
}

/// Yields so many bytes at a time, and is interrupted between them.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.1 & !INTERRUPTED;
        self.1 ^= INTERRUPTED;
        if self.1 & INTERRUPTED != 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = into.len().min(size);
        self.0.read(&mut into[..length])
    }
}

const INTERRUPTED: usize = 1 << 31;

/// Everything that a file can hold: zstd itself says where frames are.
fn possible(file: &[u8]) -> Vec<Vec<u8>> {
    let first = file.iter().find(|byte| !byte.is_ascii_whitespace());
    let plain = Some(file.to_vec()).filter(|_| first == Some(&b'{'));
    let mut context = DCtx::create();
    let mut content = Vec::with_capacity(LARGEST_FRAME);
    let mut contents: Vec<_> = plain.into_iter().collect();
    for at in 0..file.len() {
        let rest = &file[at..];
        // The fifth byte says whether there is a checksum; zstd tests it.
        if !rest.starts_with(&MAGIC) || rest.get(4).is_none_or(|flags| flags & 4 == 0) {
            continue;
        }
        let Ok(length) = find_frame_compressed_size(rest) else {
            continue;
        };
        content.clear();
        if context.decompress(&mut content, &rest[..length]).is_ok() {
            contents.push(content.clone());
        }
    }
    contents
}

/// Makes a file of parts: a byte says what kind, one how many bytes it takes.
fn build(plan: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut rest = plan;
    let mut is_large = false;
    while let [kind, length, data @ ..] = rest {
        let (data, behind) = data.split_at(data.len().min((*length).into()));
        rest = behind;
        match kind % 8 {
            0 => file.extend_from_slice(data),
            1 => file.extend(frame(data, true)),
            // A line that is too long, or a frame that is too large: once, for they
            // take long.
            2 if *kind == 0xFA && !is_large => {
                is_large = true;
                let wanted = usize::from(1 + length % 5) << 20;
                file.extend(frame(&data.repeat(1 + wanted / data.len().max(1)), true));
            }
            2 => file.extend(frame(&data.repeat(9), true)),
            3 => file.extend(frame(data, false)),
            4 => {
                file.extend([0x50 | kind >> 4, 0x2A, 0x4D, 0x18, *length, 0, 0, 0]);
                file.extend_from_slice(data);
            }
            5 => file.truncate(file.len().saturating_sub((*length).into())),
            6 => {
                let at = file.len().saturating_sub(usize::from(*length) + 1);
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << (kind >> 5);
                }
                rest = &plan[plan.len() - behind.len() - data.len()..];
            }
            _ => file.extend_from_within(file.len().saturating_sub((*length).into())..),
        }
    }
    file
}

fn frame(content: &[u8], has_checksum: bool) -> Vec<u8> {
    let encode = || {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
        encoder.include_checksum(has_checksum)?;
        encoder.write_all(content)?;
        encoder.finish()
    };
    encode().expect("memory takes everything")
}

//! Any bytes as a capture: whatever is read of them was in a whole frame.
//!
//! The bytes are read as they are, and as the plan of a file that has frames
//! with right checksums in it: chance alone makes none.

#![no_main]

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
    for size in [1, 7, 4096] {
        let again = all(Pieces(file, size));
        assert!(again == whole, "in pieces of {size}: {again:?}");
    }
    let possible = Possible::new(file);
    for line in &whole.lines {
        assert!(line.len() <= LONGEST_LINE, "{} bytes", line.len());
        assert!(!line.contains(&b'\n'));
        assert!(possible.has(line), "invented: {}", line.escape_ascii());
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

/// Every line that a file can hold: zstd itself says where frames are.
struct Possible<'a> {
    plain: Option<&'a [u8]>,
    frames: Vec<Vec<u8>>,
}

impl<'a> Possible<'a> {
    fn new(file: &'a [u8]) -> Self {
        let first = file.iter().find(|byte| !byte.is_ascii_whitespace());
        let mut context = DCtx::create();
        let mut content = Vec::with_capacity(LARGEST_FRAME);
        let mut frames = Vec::new();
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
                frames.push(content.clone());
            }
        }
        Self {
            plain: (first == Some(&b'{')).then_some(file),
            frames,
        }
    }

    fn has(&self, line: &[u8]) -> bool {
        let contents = self.frames.iter().map(Vec::as_slice).chain(self.plain);
        let mut lines = contents.flat_map(|content| content.split(|byte| *byte == b'\n'));
        lines.any(|other| other == line)
    }
}

/// Makes a file of parts: a byte says what kind, one how many bytes it takes.
fn build(plan: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut rest = plan;
    while let [kind, length, data @ ..] = rest {
        let (data, behind) = data.split_at(data.len().min((*length).into()));
        rest = behind;
        match kind % 8 {
            0 => file.extend_from_slice(data),
            1 => file.extend(frame(data, true)),
            // A line that may be too long, or a frame that may be too large.
            2 => file.extend(frame(&data.repeat(1 + usize::from(*kind) * 256), true)),
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
        // Of many large frames nothing more can be learned.
        if file.len() > 256 << 10 {
            break;
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

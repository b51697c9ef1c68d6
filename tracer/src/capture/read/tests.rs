use std::io::Write;

use super::*;

/// A frame as the writer makes it.
fn frame(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    encoder.write_all(content)?;
    encoder.finish()
}

/// All lines, and the damage.
fn read(input: impl Read) -> io::Result<(Vec<Vec<u8>>, Damage)> {
    let mut reader = Reader::new(input);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line()? {
        lines.push(line.to_vec());
    }
    Ok((lines, *reader.damage()))
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

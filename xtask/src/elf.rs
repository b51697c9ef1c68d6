//! Finds a section in an ELF file: the little that kernels and modules need.

/// The contents of the section called `name` in a 64-bit little-endian ELF file.
pub(crate) fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = number(elf, 0x28, 8)?;
    let size = number(elf, 0x3a, 2)?;
    let count = number(elf, 0x3c, 2)?;
    let names_index = number(elf, 0x3e, 2)?;
    let header = |index: usize| elf.get(table.checked_add(index.checked_mul(size)?)?..);
    let contents = |header: &[u8]| {
        let start = number(header, 0x18, 8)?;
        elf.get(start..start.checked_add(number(header, 0x20, 8)?)?)
    };
    let names = contents(header(names_index)?)?;
    for index in 0..count {
        let header = header(index)?;
        let found = names.get(number(header, 0, 4)?..)?;
        if found.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            return contents(header);
        }
    }
    None
}

/// The little-endian number of `width` bytes at `offset`.
pub(crate) fn number(bytes: &[u8], offset: usize, width: usize) -> Option<usize> {
    let field = bytes.get(offset..offset.checked_add(width)?)?;
    let value = field
        .iter()
        .rev()
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one section `.x` that holds `contents`.
    fn sample(contents: &[u8]) -> Vec<u8> {
        let names = b"\0.x\0.names\0";
        let mut elf = vec![0_u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let contents_at = elf.len() as u64;
        elf.extend_from_slice(contents);
        let names_at = elf.len() as u64;
        elf.extend_from_slice(names);
        let table = elf.len() as u64;
        for (name, offset, size) in [
            (0_u32, 0, 0),
            (1, contents_at, contents.len() as u64),
            (4, names_at, names.len() as u64),
        ] {
            let mut header = [0_u8; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
            header[0x20..0x28].copy_from_slice(&size.to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        elf[0x3a] = 64;
        elf[0x3c] = 3;
        elf[0x3e] = 2;
        elf
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let elf = sample(b"contents");
        assert_eq!(section(&elf, ".x"), Some(b"contents".as_slice()));
        assert_eq!(section(&elf, ".y"), None);
    }

    #[test]
    fn damaged_files_have_no_sections() {
        let elf = sample(b"contents");
        assert_eq!(section(b"", ".x"), None);
        for length in 0..elf.len() {
            let _ = section(&elf[..length], ".x");
        }
        let mut wild = elf;
        wild[0x28..0x30].fill(0xff);
        assert_eq!(section(&wild, ".x"), None);
    }
}

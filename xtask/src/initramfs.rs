//! Writes an initramfs: a newc cpio archive, the only form the kernel reads.

/// Magic number of newc without checksums.
const MAGIC: &str = "070701";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that grows entry by entry.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Initramfs {
    /// Adds an empty directory.
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, (0, 0), &[]);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, PROGRAM, (0, 0), contents);
    }

    /// Adds a plain file.
    pub(crate) fn file(&mut self, name: &str, contents: &[u8]) {
        self.entry(name, FILE, (0, 0), contents);
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER_DEVICE, (major, minor), &[]);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    /// Header fields are eight hex digits each; names and contents start at multiples of four.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inodes += 1;
        let is_directory = mode & 0o170_000 == 0o040_000;
        let fields = [
            self.inodes,
            mode,
            0, // uid
            0, // gid
            if is_directory { 2 } else { 1 },
            0, // mtime: the same inputs give the same archive
            length(contents.len()),
            0, // device that holds the file, major
            0, // minor
            device.0,
            device.1,
            length(name.len() + 1),
            0, // checksum, unused in this form
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// The format has 32 bits for a size; what we pack is far below that.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device, contents.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut offset = 0_usize;
        while !bytes.is_empty() {
            assert_eq!(offset % 4, 0);
            assert_eq!(&bytes[..6], MAGIC.as_bytes());
            let field = |index: usize| {
                let at = 6 + index * 8;
                let digits = String::from_utf8_lossy(&bytes[at..at + 8]);
                u32::from_str_radix(&digits, 16).unwrap_or(u32::MAX)
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8_lossy(&bytes[110..110 + name_size - 1]);
            let start = (110 + name_size).next_multiple_of(4);
            let end = start + size;
            entries.push((
                name.into_owned(),
                field(1),
                (field(9), field(10)),
                bytes[start..end].to_vec(),
            ));
            let next = end.next_multiple_of(4);
            offset += next;
            bytes = &bytes[next..];
        }
        entries
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut initramfs = Initramfs::default();
        initramfs.directory("dev");
        initramfs.character_device("dev/console", 5, 1);
        initramfs.program("init", b"12345");
        initramfs.file("modules.order", b"");
        let entries = read(&initramfs.finish());
        let entry = |name: &str, mode, device, contents: &[u8]| -> Entry {
            (name.to_owned(), mode, device, contents.to_vec())
        };
        assert_eq!(
            entries,
            [
                entry("dev", 0o040_755, (0, 0), b""),
                entry("dev/console", 0o020_600, (5, 1), b""),
                entry("init", 0o100_755, (0, 0), b"12345"),
                entry("modules.order", 0o100_644, (0, 0), b""),
                entry("TRAILER!!!", 0, (0, 0), b""),
            ]
        );
    }
}

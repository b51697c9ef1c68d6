//! Writes an initramfs: a newc cpio archive, the only form the kernel reads.

use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Magic number of newc without checksums.
const MAGIC: &str = "070701";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;
const LINK: u32 = 0o120_777;

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

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: &str) {
        self.entry(name, LINK, (0, 0), target.as_bytes());
    }

    /// Adds all that is below `root`, with modes and owners; devices and the like
    /// are left out.
    pub(crate) fn tree(&mut self, root: &Path) -> Result<()> {
        self.below(root, "")
    }

    fn below(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            let owner = (meta.uid(), meta.gid());
            if meta.is_dir() {
                self.owned(&name, meta.mode(), owner, (0, 0), &[]);
                self.below(&path, &format!("{name}/"))?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?;
                let target = target.as_os_str().as_bytes();
                self.owned(&name, meta.mode(), owner, (0, 0), target);
            } else if meta.is_file() {
                self.owned(&name, meta.mode(), owner, (0, 0), &fs::read(&path)?);
            }
        }
        Ok(())
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.owned(name, mode, (0, 0), device, contents);
    }

    /// Header fields are eight hex digits each; names and contents start at multiples of four.
    fn owned(
        &mut self,
        name: &str,
        mode: u32,
        owner: (u32, u32),
        device: (u32, u32),
        contents: &[u8],
    ) {
        self.inodes += 1;
        let is_directory = mode & 0o170_000 == 0o040_000;
        let fields = [
            self.inodes,
            mode,
            owner.0,
            owner.1,
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
    fn a_tree_goes_in_whole() -> Result<()> {
        let root = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        fs::create_dir_all(root.join("a"))?;
        fs::write(root.join("a/b"), "c")?;
        std::os::unix::fs::symlink("b", root.join("a/l"))?;
        let mut initramfs = Initramfs::default();
        let outcome = initramfs.tree(&root);
        fs::remove_dir_all(&root)?;
        outcome?;
        let mut entries = read(&initramfs.finish());
        entries.sort();
        let found: Vec<(&str, u32, &[u8])> = entries
            .iter()
            .map(|(name, mode, _, contents)| (name.as_str(), mode >> 12, contents.as_slice()))
            .collect();
        assert_eq!(
            found,
            [
                ("TRAILER!!!", 0, &b""[..]),
                ("a", 0o04, b""),
                ("a/b", 0o10, b"c"),
                ("a/l", 0o12, b"b"),
            ]
        );
        Ok(())
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

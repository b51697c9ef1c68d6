//! Which sources the committed eBPF object was built from.
//!
//! This file is compiled twice: as a module of `xtask`, which writes the
//! manifest, and of `tracer/build.rs`, which refuses to embed an object that is
//! older than its sources. So it uses nothing but std.
//!
//! The digest guards against forgetting, not against an attacker: FNV-1a with
//! 128 bits is enough, and needs no crate in a build script.
#![allow(
    dead_code,
    reason = "each of the two crates that compile this file uses another part of it"
)]

use std::fs;
use std::io;
use std::path::Path;

/// The manifest beside the object, relative to the workspace.
pub(crate) const MANIFEST: &str = "tracer/ebpf/tracer.bpf.sources";

/// The committed eBPF object, relative to the workspace.
pub(crate) const OBJECT: &str = "tracer/ebpf/tracer.bpf.o";

/// Files and directories that decide what the object holds.
const SOURCES: [&str; 5] = [
    "tracer-common/Cargo.toml",
    "tracer-common/src",
    "tracer-ebpf/Cargo.lock",
    "tracer-ebpf/Cargo.toml",
    "tracer-ebpf/src",
];

const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The digest of every file that decides what the object holds; `root` is the workspace.
pub(crate) fn digest_sources(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, source, &mut files)?;
    }
    files.sort();
    let mut state = OFFSET_BASIS;
    for name in files {
        let bytes = fs::read(root.join(&name))?;
        state = absorb(state, name.as_bytes());
        state = absorb(state, &[0]);
        state = absorb(state, &(bytes.len() as u64).to_le_bytes());
        state = absorb(state, &bytes);
    }
    Ok(format!("{state:032x}"))
}

/// The digest of one run of bytes.
pub(crate) fn digest_bytes(bytes: &[u8]) -> String {
    format!("{:032x}", absorb(OFFSET_BASIS, bytes))
}

fn absorb(state: u128, bytes: &[u8]) -> u128 {
    bytes.iter().fold(state, |state, byte| {
        (state ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

/// Adds the file `name`, or every file below it, as paths relative to `root`.
/// Dot files are left out: editors drop theirs beside the sources.
fn collect(root: &Path, name: &str, files: &mut Vec<String>) -> io::Result<()> {
    if !root.join(name).is_dir() {
        files.push(name.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(root.join(name))? {
        let file = entry?.file_name();
        let file = file.to_string_lossy();
        if !file.starts_with('.') {
            collect(root, &format!("{name}/{file}"), files)?;
        }
    }
    Ok(())
}

//! Where fuzzing begins: small inputs that reach far into what is tested, made
//! of a golden capture.

use super::texts::{CGROUPS, NAMES, PROC_FILES, WORDS};
use crate::{run, say};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tracer_common::{Cause, Event, Family, Hook, Kind, flag};
use zerocopy::{FromZeros as _, IntoBytes as _};

const GOLDEN: &str = "tracer/tests/golden/v1.zst";

/// Seeds by their names.
type Seeds = BTreeMap<String, Vec<u8>>;

/// Where the seeds of a target are; `root` is the workspace.
pub(super) fn directory(root: &Path, target: &str) -> PathBuf {
    root.join("fuzz/seeds").join(target)
}

/// Makes all seeds anew.
pub(super) fn write(root: &Path) -> Result<()> {
    run::need_programs(&[("zstd", "zstd")])?;
    let file = root.join(GOLDEN);
    let unpacked = run::filter("zstd", &file)?;
    ensure!(unpacked.status.success(), "{GOLDEN} cannot be unpacked");
    let lines = String::from_utf8(unpacked.stdout)?;
    let capture = fs::read(&file).context(GOLDEN)?;
    for (target, seeds) in [
        ("btf", types()),
        ("capture_reader", captures(capture, &lines)),
        ("cgroup_path", texts(CGROUPS)),
        ("filters", texts(WORDS)),
        ("proc_files", texts(PROC_FILES)),
        ("record_parse", records(&lines)?),
        ("ring_decode", events()),
        ("sanitise", texts(NAMES)),
    ] {
        let directory = directory(root, target);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        for (name, bytes) in &seeds {
            fs::write(directory.join(name), bytes)?;
        }
        let size: usize = seeds.values().map(Vec::len).sum();
        say::note(&format!("{target}: {} seeds, {size} bytes", seeds.len()));
    }
    Ok(())
}

fn texts(texts: &[(&str, &str)]) -> Seeds {
    let seeds = texts.iter();
    seeds
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect()
}

/// A capture, lines that are not compressed, and a plan: see the target.
fn captures(capture: Vec<u8>, lines: &str) -> Seeds {
    let event = lines.lines().nth(1).unwrap_or_default();
    let plain = format!("{event}\nno record\n{{\"v\":1}}\n{{\"torn\":");
    let mut plan = Vec::new();
    let parts: [(u8, &[u8]); 9] = [
        (
            1,
            b"{\"v\":1,\"type\":\"event\"}\n{\"v\":1,\"type\":\"end\"}\n",
        ),
        (0xFA, b"{\"n\":1}\n"),
        (0, b"noise"),
        (3, b"{\"unchecked\":1}\n"),
        (4, b"skipped"),
        (1, b"{\"corrupt\":1}\n"),
        (6, b""),
        (1, b"{\"torn\":1}\n"),
        (5, b""),
    ];
    for (kind, data) in parts {
        let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
        plan.extend([kind, length]);
        plan.extend_from_slice(data);
    }
    Seeds::from([
        ("capture".to_owned(), capture),
        ("plain".to_owned(), plain.into_bytes()),
        ("plan".to_owned(), plan),
    ])
}

/// Types of a small kernel: `int`; `struct inner { int b; }`, its typedef in an
/// anonymous union in `struct outer`, with a bit-field; and a function.
fn types() -> Seeds {
    let strings = b"\0int\0inner\0b\0alias\0outer\0head\0call\0";
    // Name, kind and count, type or size; then what belongs to it.
    let types: [u32; 41] = [
        [1, 1 << 24, 4, 32].as_slice(),
        &[5, 4 << 24 | 1, 4, 11, 1, 0],
        &[13, 8 << 24, 2],
        &[0, 5 << 24 | 1, 4, 0, 3, 0],
        &[
            19,
            1 << 31 | 4 << 24 | 3,
            12,
            25,
            1,
            0,
            0,
            4,
            32,
            11,
            1,
            3 << 24 | 64,
        ],
        &[0, 13 << 24 | 2, 1, 25, 1, 11, 1],
        &[30, 12 << 24 | 1, 6],
    ]
    .concat()
    .try_into()
    .unwrap_or([0; 41]);
    let lengths = [size_of_val(&types), strings.len()].map(|it| u32::try_from(it).unwrap_or(0));
    let header = [24, 0, lengths[0], lengths[0], lengths[1]];
    let words = header.into_iter().chain(types).flat_map(u32::to_le_bytes);
    let begin = [0x9f, 0xeb, 1, 0].into_iter();
    let bytes = begin.chain(words).chain(strings.iter().copied());
    let kernel: Vec<u8> = bytes.collect();
    // The union's member is of the struct that it is in.
    let mut within_itself = kernel.clone();
    if let Some(member) = within_itself.get_mut(24 + 17 * 4) {
        *member = 5;
    }
    let cut = kernel[..kernel.len() / 2].to_vec();
    Seeds::from([
        ("kernel".to_owned(), kernel),
        ("within-itself".to_owned(), within_itself),
        ("cut".to_owned(), cut),
    ])
}

/// One record of each type, and of each kind of failures.
fn records(lines: &str) -> Result<Seeds> {
    let mut seeds = Seeds::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line)?;
        let name = ["type", "kind"].map(|field| record[field].as_str().unwrap_or_default());
        seeds
            .entry(name.join("-").trim_end_matches('-').to_owned())
            .or_insert_with(|| line.as_bytes().to_vec());
    }
    // None of these is made by a machine that is well.
    for (name, line) in [
        (
            "lost",
            r#"{"v":1,"type":"lost","time":"2026-11-21T03:00:02.000000Z","count":3}"#,
        ),
        (
            "gap",
            r#"{"v":1,"type":"gap","time":"2026-11-21T03:00:02.000000Z","since":"2026-11-21T03:00:01.000000Z","records":9,"reason":"No space left on device (os error 28)"}"#,
        ),
    ] {
        seeds.insert(name.to_owned(), line.as_bytes().to_vec());
    }
    Ok(seeds)
}

/// An event of each kind.
fn events() -> Seeds {
    let event = |kind: Kind| {
        let mut event = Event::new_zeroed();
        event.kind = kind as u8;
        event.cause = Cause::PortsExhausted as u8;
        event.hook = Hook::FexitInetHashConnect as u8;
        event.family = if kind.is_drop() {
            Family::V6
        } else {
            Family::V4
        } as u8;
        event.local = [10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        event.remote = [10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        (event.local_port, event.remote_port) = (40_000, 80);
        event.flags = flag::ASKED;
        event.caller.comm = *b"checkout\0\0\0\0\0\0\0\0";
        event.as_bytes().to_vec()
    };
    let kinds = Kind::ALL.iter();
    kinds
        .map(|kind| (kind.name().to_owned(), event(*kind)))
        .collect()
}

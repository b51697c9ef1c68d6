//! Refuses to embed an eBPF object that is older than its sources.

use std::path::Path;

#[path = "../xtask/src/source_digest.rs"]
mod source_digest;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for watched in [
        "tracer/ebpf",
        "tracer-ebpf",
        "tracer-common",
        "xtask/src/source_digest.rs",
    ] {
        println!("cargo::rerun-if-changed=../{watched}");
    }
    if let Err(why) = check(&root) {
        println!("cargo::error={why}: run `cargo xtask ebpf`");
    }
}

fn check(root: &Path) -> Result<(), String> {
    let read = |name: &str| std::fs::read(root.join(name)).map_err(|e| format!("{name}: {e}"));
    let manifest = String::from_utf8_lossy(&read(source_digest::MANIFEST)?).into_owned();
    let recorded = |key: &str| {
        manifest
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .ok_or_else(|| format!("{} names no {key}", source_digest::MANIFEST))
    };
    let sources = source_digest::digest_sources(root).map_err(|e| format!("eBPF sources: {e}"))?;
    if recorded("digest")? != sources {
        return Err("the eBPF sources changed after the object was built".into());
    }
    let object = source_digest::digest_bytes(&read(source_digest::OBJECT)?);
    if recorded("object")? != object {
        return Err("the eBPF object is not the one its manifest describes".into());
    }
    Ok(())
}

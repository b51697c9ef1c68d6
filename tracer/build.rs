//! Embeds the eBPF object, compressed; refuses one that is older than its sources.

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
    if let Err(why) = compress(&root) {
        println!("cargo::error=the eBPF object cannot be compressed: {why}");
    }
}

/// Most of the object is types and line numbers, which take a sixth of their size so.
fn compress(root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const BEST: i32 = 19;
    let object = std::fs::read(root.join(source_digest::OBJECT))?;
    let packed = zstd::bulk::compress(&object, BEST)?;
    let out = std::env::var("OUT_DIR")?;
    let out = Path::new(&out);
    std::fs::write(out.join("tracer.bpf.o.zst"), packed)?;
    let size = format!(
        "/// Bytes of the eBPF object.\npub(super) const OBJECT_SIZE: usize = {};\n",
        object.len()
    );
    std::fs::write(out.join("object_size.rs"), size)?;
    Ok(())
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

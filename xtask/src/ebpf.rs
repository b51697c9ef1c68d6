//! `xtask ebpf`: builds the committed eBPF object, or checks that it is what the sources build.

use crate::place::Place;
use crate::source_digest::{MANIFEST, OBJECT, digest_bytes, digest_sources};
use crate::toolchain::{self, Toolchain};
use crate::{bpf_linker, run, rust_src, rustc_wrapper, say};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the object is built for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Builds the object and writes it and its manifest into the checkout.
pub(crate) fn build(place: &Place) -> Result<()> {
    let toolchain = Toolchain::ask()?;
    // Taken before the build: a source that changes meanwhile must not pass as built.
    let digest = digest_sources(&place.root)?;
    let object = compile(place, &toolchain, &place.cache.join("ebpf"), false)?;
    let digest = if digest_sources(&place.root)? == digest {
        digest
    } else {
        bail!("the eBPF sources changed while they were built: run this again");
    };
    let path = place.root.join(OBJECT);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, &object)?;
    fs::write(
        place.root.join(MANIFEST),
        manifest(&digest, &toolchain.line, &object),
    )?;
    say::note(&format!("{OBJECT}: {} bytes", object.len()));
    Ok(())
}

/// Fails when the committed object is not what the sources build.
pub(crate) fn check(place: &Place) -> Result<()> {
    let again = "run `cargo xtask ebpf` and commit what it writes";
    let toolchain = Toolchain::ask()?;
    let committed = fs::read_to_string(place.root.join(MANIFEST))
        .with_context(|| format!("{MANIFEST} is missing: {again}"))?;
    let object = fs::read(place.root.join(OBJECT))
        .with_context(|| format!("{OBJECT} is missing: {again}"))?;
    let rustc = committed.lines().nth(1).unwrap_or_default();
    if rustc != toolchain.line {
        bail!(
            "the committed object was built by {rustc}, and this is {}: another compiler cannot \
             check it",
            toolchain.line
        );
    }
    let digest = digest_sources(&place.root)?;
    if committed != manifest(&digest, &toolchain.line, &object) {
        bail!("{MANIFEST} does not go with the eBPF sources and the object: {again}");
    }
    // From nothing: what an earlier build left must not stand in for the sources.
    let scratch = place.cache.join("ebpf-check");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    let rebuilt = compile(place, &toolchain, &scratch, true)?;
    fs::remove_dir_all(&scratch)?;
    if rebuilt != object {
        bail!(
            "{OBJECT} ({} bytes) is not what its sources build ({} bytes): {again}",
            object.len(),
            rebuilt.len()
        );
    }
    say::note(&format!(
        "{OBJECT} is what its sources build, byte for byte"
    ));
    Ok(())
}

fn manifest(digest: &str, rustc: &str, object: &[u8]) -> String {
    format!(
        "digest {digest}\n{rustc}\nbpf-linker {}\nobject {}\n",
        bpf_linker::VERSION,
        digest_bytes(object)
    )
}

/// Builds the object from the sources and returns its bytes.
fn compile(place: &Place, toolchain: &Toolchain, target: &Path, locked: bool) -> Result<Vec<u8>> {
    let library = rust_src::library(place, toolchain)?;
    let linker = bpf_linker::path(place, toolchain)?;
    // One flag a line: the separator that cargo expects cannot be part of a path.
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut command = toolchain::cargo();
    command
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target)
        .current_dir(place.root.join("tracer-ebpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_INCREMENTAL", "0")
        // `build-std` is not stable; this release is known to do it right.
        .env("RUSTC_BOOTSTRAP", "1")
        // Where cargo finds the sources of `core`: leaves the user's toolchain as it is.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &library)
        // bpf-linker loads the LLVM inside rustc; rustup sets this by itself.
        .env("LD_LIBRARY_PATH", toolchain.sysroot.join("lib"))
        .env("RUSTC_WRAPPER", std::env::current_exe()?)
        .env(rustc_wrapper::MARK, "1");
    if locked {
        command.arg("--locked");
    }
    run::check(&mut command).context("the eBPF programs do not build")?;
    let built = target.join(TARGET).join("release/tracer");
    let stripped = target.join("tracer.bpf.o");
    strip(toolchain, &built, &stripped)?;
    let object = fs::read(&stripped)?;
    no_machine_paths(place, &object)?;
    Ok(object)
}

/// Fails where the sources are not as `tracer-ebpf/Cargo.toml` demands.
pub(crate) fn lint(place: &Place) -> Result<()> {
    let library = rust_src::library(place, &Toolchain::ask()?)?;
    run::check(
        toolchain::cargo()
            .args(["clippy", "--quiet", "--release", "--locked"])
            .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
            .arg(place.cache.join("ebpf-lint"))
            .args(["--", "-D", "warnings"])
            .current_dir(place.root.join("tracer-ebpf"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("__CARGO_TESTS_ONLY_SRC_ROOT", &library),
    )
}

/// Takes DWARF out and leaves BTF in: the kernel reads only the latter.
fn strip(toolchain: &Toolchain, from: &Path, to: &PathBuf) -> Result<()> {
    let objcopy = toolchain
        .sysroot
        .join("lib/rustlib")
        .join(&toolchain.host)
        .join("bin/rust-objcopy");
    run::capture(
        Command::new(&objcopy)
            .args(["--strip-debug", "--remove-section=.rel.BTF"])
            .arg("--remove-section=.rel.BTF.ext")
            // It is linked with the LLVM of rustc, which it does not find by itself.
            .env("LD_LIBRARY_PATH", toolchain.sysroot.join("lib"))
            .arg(from)
            .arg(to),
    )
    .context("DWARF could not be taken out of the object")?;
    Ok(())
}

/// A path of the machine that built it would make the object differ elsewhere.
fn no_machine_paths(place: &Place, object: &[u8]) -> Result<()> {
    let home = std::env::var("HOME").unwrap_or_default();
    for path in [place.root.display().to_string(), home] {
        let found = path.len() > 1
            && object
                .windows(path.len())
                .any(|bytes| bytes == path.as_bytes());
        if found {
            bail!("the object holds the path {path} of this machine");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_has_four_lines() {
        let text = manifest("d", "rustc 1.2.3 (x)", b"object");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "digest d");
        assert_eq!(lines[1], "rustc 1.2.3 (x)");
        assert_eq!(lines[3], format!("object {}", digest_bytes(b"object")));
    }
}

//! The linker that turns Rust's bitcode into a BPF object.

use crate::place::Place;
use crate::toolchain::{self, Toolchain};
use crate::{run, say};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The version whose output is committed.
pub(crate) const VERSION: &str = "0.10.4";

/// It uses the LLVM inside rustc, so the two must agree.
const LLVM: &str = "22";

/// The linker's path; it is built when it is not here yet.
pub(crate) fn path(place: &Place, toolchain: &Toolchain) -> Result<PathBuf> {
    if toolchain.llvm != LLVM {
        bail!(
            "bpf-linker {VERSION} goes with LLVM {LLVM}, and {} has LLVM {}: use the Rust release \
             that tracer/ebpf/tracer.bpf.sources names",
            toolchain.line,
            toolchain.llvm
        );
    }
    let root = place
        .cache
        .join(format!("bpf-linker-{VERSION}-rust-{}", toolchain.release));
    let program = root.join("bin/bpf-linker");
    if !works(&program) {
        install(place, &root)?;
    }
    if !works(&program) {
        bail!("{} does not run", program.display());
    }
    Ok(program)
}

fn works(program: &PathBuf) -> bool {
    run::capture(Command::new(program).arg("--version"))
        .is_ok_and(|text| text.trim() == format!("bpf-linker {VERSION}"))
}

fn install(place: &Place, root: &PathBuf) -> Result<()> {
    say::note(&format!(
        "building bpf-linker {VERSION} (once, about two minutes)"
    ));
    let build = place.cache.join("bpf-linker-build");
    let feature = format!("rust-llvm-{LLVM}");
    run::check(
        toolchain::cargo()
            .args(["install", "--quiet", "bpf-linker", "--version", VERSION])
            .args(["--locked", "--force", "--no-default-features"])
            .args(["--features", &feature, "--root"])
            .arg(root)
            .arg("--target-dir")
            .arg(&build)
            // Away from the checkout, whose .cargo/config.toml is not meant for it.
            .current_dir("/"),
    )
    .context("bpf-linker could not be built")?;
    fs::remove_dir_all(&build)?;
    Ok(())
}

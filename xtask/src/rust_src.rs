//! The sources of Rust's `core`, of exactly the compiler's version.
//!
//! `core` for BPF is not shipped built: cargo builds it from these.

use crate::debian::{self, Apt};
use crate::place::Place;
use crate::toolchain::Toolchain;
use crate::{run, say};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// rustup repeats its attempts for minutes where its server cannot be reached.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(20);

/// The `library` directory of the sources, fetched when it is not here yet.
pub(crate) fn library(place: &Place, toolchain: &Toolchain) -> Result<PathBuf> {
    let ours = place.cache.join(format!("rust-src-{}", toolchain.release));
    let installed = toolchain.sysroot.join("lib/rustlib/src/rust/library");
    for library in [&installed, &ours.join("library")] {
        if is_whole(library) {
            return Ok(library.clone());
        }
    }
    if ask_rustup() && is_whole(&installed) {
        return Ok(installed);
    }
    from_debian(place, toolchain, &ours)?;
    Ok(ours.join("library"))
}

fn is_whole(library: &Path) -> bool {
    library.join("core/src/lib.rs").is_file() && library.join("Cargo.lock").is_file()
}

fn ask_rustup() -> bool {
    if !run::exists("rustup") {
        return false;
    }
    say::note("asking rustup for rust-src");
    let child = run::spawn(
        Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    child
        .and_then(|mut child| run::wait_at_most(&mut child, RUSTUP_PATIENCE))
        .is_ok_and(|status| status.is_some_and(|status| status.success()))
}

/// Debian packages the same files. They stay in our own cache: the user's
/// toolchain is rustup's, and not ours to change.
fn from_debian(place: &Place, toolchain: &Toolchain, ours: &Path) -> Result<()> {
    let release = &toolchain.release;
    say::note(&format!(
        "rustup cannot give rust-src: taking Debian's package of {release}"
    ));
    let what_to_do = || {
        format!(
            "run `rustup component add rust-src` where rustup's server can be reached, \
             or put the directory `library` of Rust {release}'s sources into {}",
            ours.display()
        )
    };
    let apt = Apt::open(place).with_context(what_to_do)?;
    let listed: Vec<_> = apt
        .versions(&["rust-src"])?
        .into_iter()
        .filter(|listed| debian::version::is_of(&listed.version, release))
        .collect();
    let Some(newest) = debian::newest(&listed) else {
        bail!(
            "no Debian series has rust-src {release} any more: {}",
            what_to_do()
        );
    };
    let deb = apt.download(newest)?;
    // Unpacked aside, so that an interrupted run leaves nothing that looks whole.
    let aside = ours.with_extension("part");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    debian::unpack(
        &deb,
        &aside,
        &[&format!("./usr/src/rustc-{release}/library")],
    )?;
    fs::create_dir_all(ours)?;
    fs::rename(
        aside.join(format!("usr/src/rustc-{release}/library")),
        ours.join("library"),
    )?;
    fs::remove_dir_all(&aside)?;
    fs::remove_file(deb)?;
    if !is_whole(&ours.join("library")) {
        bail!("Debian's rust-src {release} is not what was expected");
    }
    Ok(())
}

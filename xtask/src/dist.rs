//! `xtask dist`: what users download, in `target/dist`.
//!
//! A static program, a Debian package, an archive for everybody else, and their
//! checksums. The same sources give the same bytes: every time in there is that of
//! the last commit, and no path of this machine is in the program.

pub(crate) mod check;
mod deb;
mod tree;

use crate::place::{self, Place};
use crate::{binaries, run, say, toolchain};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All packages of the workspace have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the program may weigh.
const BUDGET: u64 = 8_000_000;

const SUMS: &str = "SHA256SUMS";

/// What is packed.
pub(crate) struct Parts {
    program: PathBuf,
    /// Man pages and completions.
    manual: PathBuf,
    /// The time of everything, in seconds since 1970.
    epoch: u64,
}

/// Builds everything and packs it.
pub(crate) fn build(place: &Place) -> Result<()> {
    let parts = parts(place)?;
    let directory = directory(place);
    pack(place, &parts, &place.cache.join("dist"), &directory)?;
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        say::result(&format!(
            "{} {}",
            entry.metadata()?.len(),
            entry.path().display()
        ));
    }
    Ok(())
}

fn directory(place: &Place) -> PathBuf {
    place.root.join("target/dist")
}

fn deb_name() -> String {
    format!("tracer_{}_amd64.deb", deb::VERSION)
}

pub(crate) fn parts(place: &Place) -> Result<Parts> {
    let epoch = epoch(place)?;
    let program = binaries::for_users(place)?;
    let size = fs::metadata(&program)?.len();
    ensure!(
        size <= BUDGET,
        "the program has {size} bytes, and {BUDGET} is the most it may have"
    );
    Ok(Parts {
        program,
        manual: manual(place, epoch)?,
        epoch,
    })
}

/// When the last commit was made, unless the caller wants another time.
fn epoch(place: &Place) -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => run::capture(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(&place.root),
        )
        .context("without git, SOURCE_DATE_EPOCH must say which time files shall have")?,
    };
    let number = text.trim().parse();
    number.with_context(|| format!("`{}` is no number of seconds", text.trim()))
}

/// A point in time as `date` writes it.
fn date(epoch: u64, format: &str) -> Result<String> {
    let mut command = Command::new("date");
    command.args(["--utc", &format!("--date=@{epoch}"), format]);
    Ok(run::capture(command.env("LC_ALL", "C"))?.trim().to_owned())
}

/// Man pages and completions. What writes them need not be small or fast.
fn manual(place: &Place, epoch: u64) -> Result<PathBuf> {
    let directory = place.cache.join("dist-manual");
    place::renew(&directory)?;
    run::check(
        toolchain::cargo()
            .args(["run", "--quiet", "--package", "tracer"])
            .args(["--example", "manual", "--features", "dist", "--"])
            .arg(&directory)
            .arg(date(epoch, "+%Y-%m-%d")?)
            .current_dir(&place.root),
    )?;
    Ok(directory)
}

/// Packs into `directory`, by way of `scratch`.
fn pack(place: &Place, parts: &Parts, scratch: &Path, directory: &Path) -> Result<()> {
    place::renew(directory)?;
    place::renew(scratch)?;
    tree::write(place, parts, scratch)?;
    let archive = format!("tracer-{VERSION}-x86_64-linux");
    let tar = format!("{archive}.tar.gz");
    run::capture(
        Command::new("tar")
            .args(["--create", "--format=gnu", "--sort=name", "--owner=0"])
            .args(["--group=0", "--numeric-owner", "--mode=go-w"])
            .arg(format!("--mtime=@{}", parts.epoch))
            .args(["--use-compress-program", "gzip -9n"])
            // Debian's own.
            .args(["--exclude=share/lintian", "--exclude=changelog.Debian.gz"])
            .arg(format!("--transform=s,^usr,{archive},"))
            .arg("--file")
            .arg(directory.join(&tar))
            .arg("--directory")
            .arg(scratch)
            .arg("usr"),
    )?;
    let deb = deb_name();
    deb::write(place, parts, scratch, &directory.join(&deb))?;
    fs::copy(&parts.program, directory.join("tracer"))?;
    let sums = run::capture(
        Command::new("sha256sum")
            .args(["tracer", &deb, &tar])
            .current_dir(directory),
    )?;
    fs::write(directory.join(SUMS), sums)?;
    fs::remove_dir_all(scratch)?;
    Ok(())
}

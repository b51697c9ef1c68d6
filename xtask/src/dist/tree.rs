//! The files of a package, where they will be.

use super::{Parts, date, deb};
use crate::place::Place;
use crate::run;
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const DOC: &str = "usr/share/doc/tracer";

/// Writes all of `usr` below `root`.
pub(super) fn write(place: &Place, parts: &Parts, root: &Path) -> Result<()> {
    let packaging = place.root.join("packaging");
    let of_manual = |name: &str| parts.manual.join(name);
    let copies = [
        (parts.program.clone(), "usr/bin/tracer"),
        (
            packaging.join("tracer-record.service"),
            "usr/lib/systemd/system/tracer-record.service",
        ),
        (
            of_manual("tracer.bash"),
            "usr/share/bash-completion/completions/tracer",
        ),
        (
            of_manual("_tracer"),
            "usr/share/zsh/vendor-completions/_tracer",
        ),
        (
            of_manual("tracer.fish"),
            "usr/share/fish/vendor_completions.d/tracer.fish",
        ),
        (
            packaging.join("lintian-overrides"),
            "usr/share/lintian/overrides/tracer",
        ),
        (
            packaging.join("copyright"),
            "usr/share/doc/tracer/copyright",
        ),
        (
            place.root.join("README.md"),
            "usr/share/doc/tracer/README.md",
        ),
        (
            place.root.join("CHANGELOG.md"),
            "usr/share/doc/tracer/changelog",
        ),
    ];
    for (from, to) in copies {
        copy(&from, &root.join(to))?;
    }
    for page in files(&of_manual("man1"))? {
        let name = page.file_name().unwrap_or_default();
        copy(&page, &root.join("usr/share/man/man1").join(name))?;
    }
    // Help and man pages name them as `docs/records.md`.
    let docs = place.root.join("docs");
    for page in files(&docs)? {
        if page.extension().is_some_and(|extension| extension == "md") {
            let name = page.strip_prefix(&docs)?;
            copy(&page, &root.join(DOC).join("docs").join(name))?;
        }
    }
    let changelog = root.join(DOC).join("changelog.Debian");
    fs::write(changelog, deb::changelog(&date(parts.epoch, "-R")?))?;
    let (doc, man) = (root.join(DOC), root.join("usr/share/man/man1"));
    let mut compressed = files(&man)?;
    compressed.extend(["changelog", "changelog.Debian"].map(|name| doc.join(name)));
    run::capture(Command::new("gzip").arg("-9n").args(compressed))?;
    settle(root, parts.epoch)
}

/// Gives everything below `path`, and itself, the one time and the modes that
/// packages have, whatever the umask is.
pub(super) fn settle(path: &Path, epoch: u64) -> Result<()> {
    let is_directory = path.is_dir();
    if is_directory {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), epoch)?;
        }
    }
    let is_program = path.ends_with("usr/bin/tracer");
    let mode = if is_directory || is_program {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    Ok(File::open(path)?.set_modified(time)?)
}

/// Every file below `directory`, in order.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

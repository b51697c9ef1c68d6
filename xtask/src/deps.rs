//! `xtask deps`: are the crates that tracer is made of allowed, known to be sound, from
//! where they should be, and needed?
//!
//! There are three lock files: what users run, the kernel side, and the fuzz targets.

use crate::place::Place;
use crate::{run, say, toolchain};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that look at dependencies, and the versions that are known to do it right.
const TOOLS: [(&str, &str); 2] = [("cargo-deny", "0.20.2"), ("cargo-machete", "0.9.2")];

/// Where a workspace begins.
const MANIFESTS: [&str; 3] = ["Cargo.toml", "tracer-ebpf/Cargo.toml", "fuzz/Cargo.toml"];

/// What cargo-deny looks at without a network.
const OFFLINE: [&str; 3] = ["bans", "licenses", "sources"];

/// Looks at everything; says whether all is well.
pub(crate) fn command(place: &Place) -> Result<bool> {
    let [deny, machete] = TOOLS.map(|(name, version)| install(place, name, version));
    let (deny, machete) = (deny?, machete?);
    let mut is_well = true;
    let mut judge = |name: &str, command: &mut Command| -> Result<()> {
        let output = run::output(command.current_dir(&place.root))?;
        if output.status.success() {
            say::result(&format!("{name}: ok"));
            return Ok(());
        }
        is_well = false;
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told).trim().to_owned();
        say::result(&format!("FAIL {name}:\n{told}"));
        Ok(())
    };
    for manifest in MANIFESTS {
        let checks = OFFLINE.join(", ");
        let mut command = check(&deny, manifest);
        judge(&format!("{manifest}: {checks}"), command.args(OFFLINE))?;
    }
    for manifest in MANIFESTS {
        too_new(place, manifest)?;
    }
    say::result("no crate wants a newer Rust than Cargo.toml states");
    // The directories of their own lock files are looked at by themselves.
    for directory in ["tracer", "tracer-common", "xtask", "tracer-ebpf", "fuzz"] {
        judge(
            &format!("{directory}: nothing unused"),
            Command::new(&machete).arg(place.root.join(directory)),
        )?;
    }
    if !fetch_advisories(place, &deny)? {
        say::result("skip advisories: the database cannot be fetched here");
        return Ok(is_well);
    }
    for manifest in MANIFESTS {
        let mut command = check(&deny, manifest);
        judge(
            &format!("{manifest}: advisories"),
            command.arg("advisories"),
        )?;
    }
    Ok(is_well)
}

/// `cargo deny check` of a workspace, with every feature that users can choose.
fn check(deny: &Path, manifest: &str) -> Command {
    let mut command = Command::new(deny);
    command
        .args(["--config", "deny.toml", "--all-features", "--locked"])
        // What is fetched is fetched once, before.
        .args(["--offline", "--manifest-path", manifest])
        .args(["check", "--hide-inclusion-graph"]);
    command
}

fn fetch_advisories(place: &Place, deny: &Path) -> Result<bool> {
    let mut command = Command::new(deny);
    command.args(["--config", "deny.toml", "fetch", "db"]);
    let output = run::output(command.current_dir(&place.root))?;
    Ok(output.status.success())
}

/// The program's path; it is built when it is not here yet.
fn install(place: &Place, name: &str, version: &str) -> Result<PathBuf> {
    let root = place.cache.join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    say::note(&format!("building {name} {version} (once)"));
    let build = place.cache.join(format!("{name}-build"));
    run::check(
        toolchain::cargo()
            .args(["install", "--quiet", name, "--version", version])
            .args(["--locked", "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(&build)
            // Away from the checkout, whose .cargo/config.toml is not meant for it.
            .current_dir("/"),
    )
    .with_context(|| format!("{name} could not be built"))?;
    fs::remove_dir_all(&build)?;
    Ok(program)
}

/// Fails if a crate states that it wants a newer Rust than the workspace does.
fn too_new(place: &Place, manifest: &str) -> Result<()> {
    let stated = stated(&place.root)?;
    let metadata = run::capture(
        toolchain::cargo()
            .args(["metadata", "--format-version", "1", "--all-features"])
            .args(["--locked", "--manifest-path", manifest])
            .current_dir(&place.root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let newer = newer(&metadata, stated);
    ensure!(
        newer.is_empty(),
        "{manifest}: these want a newer Rust than Cargo.toml states: {}",
        newer.join(", ")
    );
    Ok(())
}

/// The `rust-version` of the workspace.
fn stated(root: &Path) -> Result<Version> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut lines = manifest.lines();
    let version = lines.find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.and_then(|version| parse(version.trim_matches('"')));
    version.context("Cargo.toml states no rust-version")
}

type Version = [u32; 3];

/// `1.95` or `1.95.0`
fn parse(text: &str) -> Option<Version> {
    let mut version = [0; 3];
    for (number, text) in version.iter_mut().zip(text.split('.')) {
        *number = text.parse().ok()?;
    }
    Some(version)
}

fn newer(metadata: &Value, stated: Version) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter_map(|package| {
            let wanted = package["rust_version"].as_str()?;
            let is_newer = parse(wanted).is_none_or(|wanted| wanted > stated);
            is_newer.then(|| format!("{} ({wanted})", package["name"]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("1.95"), Some([1, 95, 0]));
        assert_eq!(parse("1.9.2"), Some([1, 9, 2]));
        assert_eq!(parse("nightly"), None);
        let packages = serde_json::json!({"packages": [
            {"name": "a", "rust_version": "1.95.1"},
            {"name": "b", "rust_version": "1.95.0"},
            {"name": "c", "rust_version": null},
        ]});
        assert_eq!(newer(&packages, [1, 95, 0]), ["\"a\" (1.95.1)"]);
    }

    /// Of what users build. The other two are looked at by `xtask deps`.
    #[test]
    fn no_crate_wants_a_newer_rust() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        too_new(&Place::at(&root), MANIFESTS[0])
    }
}

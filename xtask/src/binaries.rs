//! Static builds of `tracer` and of its live tests: the same two files run on
//! this kernel and, with nothing else, inside a virtual machine.

use crate::place::Place;
use crate::{run, say, toolchain};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Stdio;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The two programs.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) tracer: PathBuf,
    pub(crate) live: PathBuf,
}

/// Builds tracer alone, as a user would.
pub(crate) fn tracer(place: &Place) -> Result<PathBuf> {
    run::check(
        toolchain::cargo()
            .args(["build", "--release", "--package", "tracer"])
            .current_dir(&place.root),
    )?;
    Ok(place.target.join("release/tracer"))
}

/// Builds tracer alone, static, as users download it. Only the last step differs from
/// other builds: it looks at all crates as one, which each were made fast already, and
/// what it adds is small rather than fast.
pub(crate) fn for_users(place: &Place) -> Result<PathBuf> {
    say::note("building static tracer");
    let target = place.root.join("target/static");
    run::check(
        toolchain::cargo()
            .args(["rustc", "--quiet", "--release", "--locked"])
            .args(["--package", "tracer", "--bin", "tracer"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&target)
            .args(["--", "-Clto=fat", "-Copt-level=s"])
            .arg("-Clink-arg=-Wl,-z,pack-relative-relocs")
            .current_dir(&place.root)
            .env("CARGO_ENCODED_RUSTFLAGS", flags()?),
    )?;
    Ok(target.join(TARGET).join("release/tracer"))
}

/// Static, and no path of this machine in it: panics name the file they come from,
/// that of a dependency in full.
fn flags() -> Result<String> {
    let home = match std::env::var("CARGO_HOME") {
        Ok(home) => home,
        Err(_) => std::env::var("HOME").context("there is no HOME")? + "/.cargo",
    };
    Ok(format!(
        "-Ctarget-feature=+crt-static\x1f--remap-path-prefix={home}=/cargo"
    ))
}

/// Builds both.
pub(crate) fn build(place: &Place) -> Result<Binaries> {
    say::note("building static tracer and its live tests");
    let target = place.root.join("target/static");
    let mut command = toolchain::cargo();
    command
        .args(["test", "--quiet", "--release", "--no-run"])
        // Hooks that break on command, for the tests of the verification at start.
        .args(["--package", "tracer", "--features", "tracer/fault"])
        .args(["--test", "live"])
        .args([
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&place.root)
        // A target of its own name keeps these flags away from build scripts and macros.
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("tracer and its live tests do not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let live = messages
        .lines()
        .filter(|line| line.contains("\"kind\":[\"test\"]") && line.contains("\"name\":\"live\""))
        .find_map(executable)
        .context("cargo built no live tests")?;
    let built = target.join(TARGET).join("release/tracer");
    // What users download is built to the same place meanwhile.
    let own = place.target.join("xtask/live");
    std::fs::create_dir_all(&own)?;
    let tracer = own.join("tracer");
    let temporary = own.join("tracer.new");
    std::fs::copy(&built, &temporary)
        .with_context(|| format!("cargo built no {}", built.display()))?;
    std::fs::rename(&temporary, &tracer)?;
    Ok(Binaries { tracer, live })
}

/// The program that one of cargo's messages announces.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    Some(path.replace("\\\\", "\\").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_the_message() {
        let message =
            r#"{"target":{"kind":["test"],"name":"live"},"executable":"/t/live-1","fresh":true}"#;
        assert_eq!(executable(message), Some("/t/live-1".into()));
        assert_eq!(executable(r#"{"executable":null}"#), None);
    }
}

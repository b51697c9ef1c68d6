//! What makes the eBPF build the same on every machine.
//!
//! Cargo hashes absolute paths into each crate's `-C metadata`, from where they
//! reach symbol names; rustc writes absolute paths into BTF's line table. While
//! building for BPF, cargo calls `xtask` in rustc's place, and this rewrites
//! both so that they depend on package names and versions alone.

use anyhow::{Context as _, Result, bail};
use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

/// When this variable is set, `xtask` was started by cargo in rustc's place.
pub(crate) const MARK: &str = "TRACER_XTASK_IS_RUSTC";

/// Runs rustc with the rewritten arguments and ends as it ended.
pub(crate) fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let rustc = words.next().context("cargo gave no compiler to run")?;
    let words: Vec<OsString> = words.collect();
    let words = match Package::from_environment() {
        Some(package) if is_for_bpf(&words) => package.rewrite(words),
        _ => words,
    };
    let status = Command::new(&rustc)
        .args(words)
        .env_remove(MARK)
        .status()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => bail!("rustc ended by {status}"),
    }
}

/// Build scripts and macros run here and leave nothing in the object.
fn is_for_bpf(words: &[OsString]) -> bool {
    words
        .windows(2)
        .any(|pair| pair[0] == "--target" && pair[1] == crate::ebpf::TARGET)
}

/// The package that is being compiled, as cargo describes it.
struct Package {
    label: String,
    directory: OsString,
    out_dir: Option<OsString>,
}

impl Package {
    /// `None` when cargo only asks rustc a question.
    fn from_environment() -> Option<Self> {
        let name = std::env::var("CARGO_PKG_NAME").ok()?;
        let version = std::env::var("CARGO_PKG_VERSION").ok()?;
        Some(Self {
            label: format!("{name}-{version}"),
            directory: std::env::var_os("CARGO_MANIFEST_DIR")?,
            out_dir: std::env::var_os("OUT_DIR"),
        })
    }

    fn rewrite(&self, words: Vec<OsString>) -> Vec<OsString> {
        let mut words: Vec<OsString> = words
            .into_iter()
            .map(|word| {
                let text = word.to_str().unwrap_or_default();
                if text.starts_with("metadata=") {
                    format!("metadata={}", self.label).into()
                } else {
                    word
                }
            })
            .collect();
        words.push(remap(&self.directory, &self.label));
        if let Some(out) = &self.out_dir {
            words.push(remap(out, &format!("{}/out", self.label)));
        }
        words
    }
}

fn remap(from: &OsStr, to: &str) -> OsString {
    let mut word = OsString::from("--remap-path-prefix=");
    word.push(from);
    word.push("=");
    word.push(to);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hashes_give_way_to_the_package() {
        let package = Package {
            label: "some-1.2.3".to_owned(),
            directory: "/a/b".into(),
            out_dir: Some("/t/out".into()),
        };
        let words = ["-C", "metadata=0123", "-C", "extra-filename=-0123"].map(OsString::from);
        let got = package.rewrite(words.to_vec());
        assert_eq!(
            got,
            [
                "-C",
                "metadata=some-1.2.3",
                "-C",
                "extra-filename=-0123",
                "--remap-path-prefix=/a/b=some-1.2.3",
                "--remap-path-prefix=/t/out=some-1.2.3/out",
            ]
        );
    }

    #[test]
    fn only_compilations_for_bpf_are_rewritten() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(is_for_bpf(&words(&["x", "--target", "bpfel-unknown-none"])));
        assert!(!is_for_bpf(&words(&["x", "-vV"])));
    }
}

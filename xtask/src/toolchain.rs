//! Which Rust compiler is in use.

use crate::run;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// What `rustc` says about itself.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// `1.95.0`
    pub(crate) release: String,
    /// The whole first line: `rustc 1.95.0 (…)`.
    pub(crate) line: String,
    /// Major version of the LLVM inside.
    pub(crate) llvm: String,
    /// Where the compiler's own libraries are.
    pub(crate) sysroot: PathBuf,
    /// The machine it runs on.
    pub(crate) host: String,
}

impl Toolchain {
    /// Asks the compiler that cargo uses.
    pub(crate) fn ask() -> Result<Self> {
        let rustc = || Command::new(program("RUSTC", "rustc"));
        let text = run::capture(rustc().arg("-vV"))?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .with_context(|| format!("rustc -vV does not say its {name}"))
        };
        let llvm = field("LLVM version:")?;
        Ok(Self {
            release: field("release:")?,
            line: text.lines().next().unwrap_or_default().to_owned(),
            llvm: llvm.split('.').next().unwrap_or_default().to_owned(),
            host: field("host:")?,
            sysroot: run::capture(rustc().args(["--print", "sysroot"]))?
                .trim()
                .into(),
        })
    }
}

/// A cargo that does what its arguments say: settings that the caller's
/// environment holds for other builds are taken away.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(program("CARGO", "cargo"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let setting = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL"];
        if setting.contains(&name.as_ref())
            || ["CARGO_BUILD_", "CARGO_PROFILE_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

fn program(variable: &str, default: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| default.into())
}

//! The commands behind `cargo xtask`.

mod bpf_linker;
mod debian;
mod ebpf;
mod place;
mod run;
mod rust_src;
mod rustc_wrapper;
mod say;
mod source_digest;
mod toolchain;

use anyhow::{Result, bail};
use place::Place;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = if std::env::var_os(rustc_wrapper::MARK).is_some() {
        rustc_wrapper::main()
    } else {
        command(std::env::args().skip(1).collect())
    };
    outcome.unwrap_or_else(|error| {
        say::error(&error);
        ExitCode::FAILURE
    })
}

fn command(words: Vec<String>) -> Result<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ebpf"] => ebpf::build(&Place::find()?)?,
        ["ebpf", "--check"] => ebpf::check(&Place::find()?)?,
        _ => bail!("usage"),
    }
    Ok(ExitCode::SUCCESS)
}

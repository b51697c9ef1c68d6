//! The commands behind `cargo xtask`.

mod ahead;
mod bench;
mod binaries;
mod bpf_linker;
mod browser;
mod btf;
mod cases;
mod debian;
mod deps;
mod dist;
mod ebpf;
mod elf;
mod fuzz;
mod initramfs;
mod kernels;
mod live;
mod modules;
mod place;
mod run;
mod rust_src;
mod rustc_wrapper;
mod sanitize;
mod say;
mod source_digest;
mod test;
mod this_kernel;
mod toolchain;
mod vm;
mod watch;

use anyhow::{Result, bail};
use place::Place;
use std::process::ExitCode;
use test::Choice;

const USAGE: &str = "\
cargo xtask ebpf [--check | --lint]
                               build the eBPF object that is committed, or check that it is current,
                               or lint its sources
cargo xtask watch [ARG]...     build tracer and run `tracer watch ARG...` as root
cargo xtask cases [--write] [NAME]...
                               stage the failures of docs/cases and judge tracer's answers;
                               --write puts the answers into the pages
cargo xtask view [--write]     run tracer watch in tmux and judge what it shows;
                               --write draws the pictures of docs/pictures
cargo xtask browser            render the HTML report in Chromium and judge it
cargo xtask duckdb             compare what DuckDB finds in exports with what was recorded
cargo xtask bench [WHAT] [--events N] [--write]
                               measure tracer beside other ways: capture, connect, crowd, queue,
                               start, census, growth, or all; --write puts the tables into
                               docs/benchmarks.md
cargo xtask beside             run tracer and other tracers at once: both see everything
cargo xtask soak [--minutes N] [--write]
                               does tracer stay as it is while things fail for half an hour?
                               --write puts the table into docs/reliability.md
cargo xtask prometheus         compare what a Prometheus scrapes with what was counted; check the
                               rules, the dashboard and the DaemonSet in deploy/
cargo xtask otlp               compare what an OpenTelemetry collector receives of tracer with what was
                               seen and counted
cargo xtask btf                write target/btf/<series>.btf from Debian's kernels
cargo xtask vm [--kernel SERIES]... [--tier TIER]... [--filter TEXT] [--boot WORD]...
                               run the live tests in virtual machines; WORD is given to the kernel
cargo xtask dist [--check]     pack what users download into target/dist; --check installs the package
                               in a clean Debian and runs it in a virtual machine
cargo xtask fuzz [TARGET]... [--seconds N] [--runs N] [--sanitize]
                               give everything that reads texts of strangers bytes that nobody
                               thought of; --seeds makes anew what they begin with
cargo xtask sanitize           run the unit tests and, briefly, all fuzz targets with AddressSanitizer
cargo xtask deps               check licences, advisories, duplicates and sources of all crates, and
                               that each is used and wants no newer Rust
cargo xtask test [--no-vm]     run every test: unit, live on this kernel, live in virtual machines";

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
    let all_well = match words.as_slice() {
        [] | ["help" | "-h" | "--help", ..] => {
            say::result(USAGE);
            true
        }
        ["ebpf"] => ebpf::build(&Place::find()?).map(|()| true)?,
        ["ebpf", "--check"] => ebpf::check(&Place::find()?).map(|()| true)?,
        ["ebpf", "--lint"] => ebpf::lint(&Place::find()?).map(|()| true)?,
        ["watch", arguments @ ..] => match watch::watch(&Place::find()?, arguments)? {},
        ["cases", words @ ..] => test::cases(&Place::find()?, &cases::Choice::parse(words)?)?,
        [cases::INSIDE, words @ ..] => cases::inside(&Place::find()?, words)?,
        ["view"] => test::view(&Place::find()?, false)?,
        ["view", "--write"] => test::view(&Place::find()?, true)?,
        [cases::view::INSIDE, words @ ..] => cases::view::inside(&Place::find()?, words)?,
        ["browser"] => test::browser(&Place::find()?)?,
        ["duckdb"] => test::duckdb(&Place::find()?)?,
        [cases::duckdb::INSIDE, words @ ..] => cases::duckdb::inside(&Place::find()?, words)?,
        ["bench", words @ ..] => {
            bench::run(&Place::find()?, &bench::Choice::parse(words)?).map(|()| true)?
        }
        ["beside"] => test::beside(&Place::find()?)?,
        ["soak", words @ ..] => {
            bench::soak(&Place::find()?, &bench::soak::Choice::parse(words)?).map(|()| true)?
        }
        [bench::INSIDE, words @ ..] => bench::inside(&Place::find()?, words)?,
        ["prometheus"] => test::prometheus(&Place::find()?)?,
        [cases::prometheus::INSIDE, words @ ..] => {
            cases::prometheus::inside(&Place::find()?, words)?
        }
        ["otlp"] => test::otlp(&Place::find()?)?,
        [cases::otlp::INSIDE, words @ ..] => cases::otlp::inside(&Place::find()?, words)?,
        ["dist"] => dist::build(&Place::find()?).map(|()| true)?,
        ["dist", "--check"] => test::dist(&Place::find()?)?,
        [dist::check::INSIDE, words @ ..] => dist::check::inside(&Place::find()?, words)?,
        [ahead::INSIDE] => ahead::inside(&Place::find()?).map(|()| true)?,
        ["btf"] => write_btf(&Place::find()?).map(|()| true)?,
        ["vm", flags @ ..] => test::vms(&Place::find()?, &choice(flags)?)?,
        ["fuzz", words @ ..] => fuzz::command(&Place::find()?, &fuzz::Choice::parse(words)?)?,
        ["deps"] => deps::command(&Place::find()?)?,
        ["sanitize"] => sanitize::command(&Place::find()?)?,
        ["test"] => test::all(&Place::find()?, true)?,
        ["test", "--no-vm"] => test::all(&Place::find()?, false)?,
        words => bail!("`{}` is not a command\n{USAGE}", words.join(" ")),
    };
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn write_btf(place: &Place) -> Result<()> {
    let kernels = kernels::fetch(place, &[])?;
    btf::extract(place, &kernels.usable)
}

/// The flags of `xtask vm`.
fn choice(flags: &[&str]) -> Result<Choice> {
    let mut choice = Choice::default();
    let mut words = flags.iter();
    while let Some(flag) = words.next() {
        let Some(value) = words.next() else {
            bail!("{flag} needs a value\n{USAGE}");
        };
        // They travel on a kernel's command line, separated by commas.
        if value.is_empty() || value.contains([' ', ',', '"']) {
            bail!("`{value}` cannot be the value of {flag}");
        }
        match *flag {
            "--kernel" => choice.kernels.push((*value).to_owned()),
            "--boot" => choice.boot.push((*value).to_owned()),
            "--tier" | "--filter" => {
                choice
                    .live
                    .extend([(*flag).to_owned(), (*value).to_owned()]);
            }
            other => bail!("`{other}` is not a flag of `xtask vm`\n{USAGE}"),
        }
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_vm() -> Result<()> {
        let got = choice(&["--kernel", "5.10", "--tier", "auto", "--kernel", "6.1"])?;
        assert_eq!(got.kernels, ["5.10", "6.1"]);
        assert_eq!(got.live, ["--tier", "auto"]);
        for wrong in [
            &["--kernel"][..],
            &["--speed", "9"],
            &["--filter", "a,b"],
            &["5.10"],
        ] {
            assert!(choice(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn unknown_commands_are_refused() {
        let words = ["fly", "--fast"].map(str::to_owned);
        assert!(command(words.to_vec()).is_err());
    }
}

//! Live tests: every failure that tracer names is provoked in private network
//! namespaces, and what tracer says is judged by the kernel's own counters and by
//! what the failing programs saw. The same program is /init of the virtual machines
//! that carry other kernels.

mod agent;
mod boot;
mod bpf;
mod case;
mod census;
mod cgroup;
mod cli;
mod cost;
mod counters;
mod expect;
mod export;
mod fair;
mod family;
mod faults;
mod guest;
mod hostile;
mod limits;
mod load;
mod metrics;
mod netlink;
mod netns;
mod options;
mod packet;
mod readme;
mod record;
mod replay;
mod report;
mod role;
mod run;
mod say;
mod scenarios;
mod snapshot;
mod surroundings;
mod sys;
mod tracer;
mod trust;
mod tun;
mod uring;
mod verdict;
mod verify;
mod who;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result, bail};

use options::Options;
use run::Tally;

/// What to return without root: neither success nor failure.
const NOT_ROOT: i32 = 77;

fn main() {
    let code = match start() {
        Ok(code) => code,
        Err(error) => {
            say::remark(&format!("{error:#}"));
            2
        }
    };
    guest::leave(code);
}

fn start() -> Result<i32> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Its name may be anything.
    if let [flag, role, comm] = &words[..]
        && flag == "--role"
        && role == "agent"
    {
        return agent::serve(comm.as_bytes()).map(|()| 0);
    }
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    if let [flag, role @ ..] = &words[..]
        && flag == "--role"
    {
        return child(role);
    }
    let options = if limits::in_guest() {
        guest::set_up()?;
        Options::parse(guest::arguments()?.into_iter(), true)?
    } else {
        Options::parse(words.into_iter(), false)?
    };
    if options.list {
        list(&options);
        return Ok(0);
    }
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        say::line("live tests need root: namespaces, TUN devices, BPF");
        return Ok(NOT_ROOT);
    }
    sys::adopt_orphans()?;
    limits::start_watchdog();
    Ok(run(&options))
}

/// This program as a child of itself.
fn child(role: &[String]) -> Result<i32> {
    match role {
        [name] if name == "load" => load::serve().map(|()| 0),
        [name, code] if name == "exit" => code.parse().context("exit code"),
        [name] if name == "status" => {
            say::line(&std::fs::read_to_string("/proc/self/status")?);
            Ok(0)
        }
        [name] if name == "wait" => {
            std::thread::sleep(limits::event());
            Ok(0)
        }
        [name, ..] if name == "fail" || name == "leave" || name == "family" => {
            family::play(role).map(|()| 0)
        }
        [name, signal] if name == "die" => {
            sys::signal(i32::try_from(std::process::id())?, signal.parse()?)?;
            bail!("the signal did not end us");
        }
        _ => bail!("no such role: {role:?}"),
    }
}

fn list(options: &Options) {
    let scenarios = scenarios::all();
    let names = scenarios.iter().map(|scenario| scenario.name);
    for name in names.chain(cli::ALL.iter().map(|test| test.name)) {
        if options.wants(name) {
            say::line(name);
        }
    }
}

fn run(options: &Options) -> i32 {
    let all = scenarios::all();
    let scenarios: Vec<_> = all
        .iter()
        .copied()
        .filter(|one| options.wants(one.name))
        .collect();
    let tests: Vec<_> = cli::ALL
        .iter()
        .filter(|test| options.wants(test.name))
        .filter(|test| options.of_kernel(test.name))
        .collect();
    let mut tally = Tally::default();
    let mut filtered = all.len() - scenarios.len();
    if !scenarios.is_empty() {
        let mut seen = Vec::new();
        for tier in &options.tiers {
            let in_tier = |one: &&case::Scenario| options.in_tier(one.name, tier);
            let scenarios: Vec<_> = scenarios.iter().filter(in_tier).copied().collect();
            tally.add(run::tier(options, tier, &scenarios, &mut seen));
        }
    }
    if !options.oracle_only {
        filtered += cli::ALL.len() - tests.len();
        if !tests.is_empty() {
            tally.add(run::cli(&options.tracer, &tests));
        }
    }
    let word = if tally.failed == 0 { "ok" } else { "FAILED" };
    say::line(&format!(
        "test result: {word}. {} passed; {} failed; {} ignored; 0 measured; {filtered} filtered out",
        tally.passed, tally.failed, tally.skipped
    ));
    i32::from(tally.failed > 0)
}

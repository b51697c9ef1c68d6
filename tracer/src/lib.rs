//! tracer: names the process and the cause behind EADDRNOTAVAIL and behind
//! listen-queue drops.
//!
//! The data's way, file by file, is in ARCHITECTURE.md. In short: `host` learns what the
//! kernel offers and plans, `probe` loads and attaches, `source` yields bytes and
//! counters, `decode` makes events of them, `attribute` names processes, `explain` finds
//! culprit and remedy, `output` writes every `record`, for a terminal through `view`;
//! `metrics` counts them for who scrapes, `otlp` sends them. `watch` is the loop around
//! it; `replay` shows again what `capture` kept, `report` tells its story, `export`
//! writes it for other tools. `snapshot` looks once, without any hook. `selftest`
//! provokes failures and judges what `watch` makes of them; `doctor` says what to expect
//! of this machine.

mod attribute;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod capture;
mod cli;
mod decode;
mod doctor;
mod exit;
mod explain;
mod export;
mod filter;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod host;
#[cfg(feature = "dist")]
#[doc(hidden)]
pub mod manual;
mod metrics;
mod model;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod probe;
#[cfg(test)]
mod properties;
mod reconcile;
mod record;
mod replay;
mod report;
mod scope;
mod selftest;
mod snapshot;
mod source;
mod startup;
mod verify;
mod view;
mod watch;
mod when;

use std::process::ExitCode;

/// Runs the command line that this process was started with.
pub fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(cli::Ended::Answered(text)) => return output::answer(&text),
        Err(cli::Ended::Wrong(why)) => {
            output::say(&format!("tracer: {why}; see tracer --help"));
            return ExitCode::from(exit::USAGE);
        }
    };
    let ended = match &cli.verb {
        cli::Verb::Watch(arguments) => watch::watch(arguments),
        cli::Verb::Record(arguments) => watch::record(arguments),
        cli::Verb::Replay(arguments) => replay::run(arguments),
        cli::Verb::Ports(arguments) => snapshot::ports(arguments),
        cli::Verb::Listeners(arguments) => snapshot::listeners(arguments),
        cli::Verb::Export(arguments) => export::run(arguments),
        cli::Verb::Report(arguments) => report::run(arguments),
        cli::Verb::Doctor(arguments) => doctor::run(arguments),
        cli::Verb::Selftest(arguments) => selftest::run(arguments),
        cli::Verb::SelftestActor { name } => {
            selftest::actor::serve(name).map(|()| 0).map_err(Into::into)
        }
        cli::Verb::VerifyActor => verify::actor::serve().map(|()| 0).map_err(Into::into),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            output::say(&format!("tracer: {failed}"));
            failed.code()
        }
    }
}

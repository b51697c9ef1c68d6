//! tracer: names the process and the cause behind EADDRNOTAVAIL and behind
//! listen-queue drops.
//!
//! The data's way: `host` learns what the kernel offers and plans, `probe`
//! loads and attaches, `source` yields bytes and counters, `decode` makes
//! events of them, `attribute` names processes, `explain` finds culprit and remedy,
//! `output` writes every [`record`], for a terminal through `view`. `watch` is the loop around it; `replay` shows again what
//! `capture` kept, `export` writes it for other tools. `snapshot` looks once, without any hook.

mod attribute;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod capture;
mod cli;
mod decode;
mod exit;
mod explain;
mod export;
mod host;
mod model;
mod output;
mod probe;
mod reconcile;
mod record;
mod replay;
mod report;
mod snapshot;
mod source;
mod startup;
mod view;
mod watch;

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
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            output::say(&format!("tracer: {failed}"));
            failed.code()
        }
    }
}

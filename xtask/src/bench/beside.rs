//! `xtask beside`: tracer and other tracers at once, on the same tracepoints and
//! functions. Both see everything, also while the other comes and goes.

use super::load::{Load, number};
use super::said;
use super::tools::{Tools, Way};
use super::watched::{Line, Watched};
use crate::cases::{Skip, Telling};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Instant;

/// 300 failures a second for two seconds: the rings of all have room.
const ORDER: &str = "mixed 300 2000";

/// `@failed[PID]`: connects that failed for want of a port; binds likewise.
const TRACEPOINTS: &str = "\
    tracepoint:sock:inet_sock_set_state { @changes[pid] = count(); } \
    tracepoint:syscalls:sys_exit_connect /args->ret == -99/ { @failed[pid] = count(); } \
    tracepoint:syscalls:sys_exit_bind /args->ret == -98/ { @bound[pid] = count(); }";

/// The functions that tracer hooks where a kernel lets it.
const FUNCTIONS: &str = "\
    kretfunc:__inet_hash_connect /retval == -99/ { @failed[pid] = count(); } \
    kretfunc:inet_csk_listen_start { @listened[pid] = count(); }";

/// What failed in one process, as that saw it.
struct Failed {
    pid: u32,
    connects: f64,
    binds: f64,
}

/// Whether the other one, by its lines, has seen that.
type Judge = fn(&[Line], &Failed) -> Result<()>;

const OTHERS: [(&str, Way, Judge); 4] = [
    ("bpftrace", Way::Bpftrace(TRACEPOINTS), counts_all),
    (
        "bpftrace-functions",
        Way::Bpftrace(FUNCTIONS),
        counts_connects,
    ),
    ("libbpf-tools", Way::Tcpstates, shows_states),
    ("bcc", Way::Bcc, shows_states),
];

/// A line for each, in the words of the live tests.
pub(super) fn judge(tools: &Tools) -> bool {
    let mut telling = Telling::default();
    for (name, way, judge) in OTHERS {
        let start = Instant::now();
        let outcome = one_beside(tools, way, judge);
        telling.tell(&format!("beside/{name}"), start, outcome);
    }
    telling.sum_up()
}

/// The other one comes after tracer and goes before it.
fn one_beside(tools: &Tools, way: Way, judge: Judge) -> Result<()> {
    let tracer = Watched::tracer(&tools.tracer, &[])?;
    let mut load = Load::start(&tools.live)?;
    let before = load.ask(ORDER)?;
    let other = match way.start(tools) {
        Ok(other) => other.context("nobody to be beside")?,
        Err(why) => return Err(Skip(format!("it does not run here: {why:#}")).into()),
    };
    let both = load.ask(ORDER)?;
    let lines = other.stop()?;
    let after = load.ask(ORDER)?;
    tracer_is_right(&tracer.stop()?, load.netns, &after)?;
    let during = |name| Ok::<_, anyhow::Error>(number(&both, name)? - number(&before, name)?);
    let failed = Failed {
        pid: load.pid(),
        connects: during("own_connects")?,
        binds: during("binds")?,
    };
    judge(&lines, &failed)
}

fn tracer_is_right(lines: &[Line], netns: u64, failed: &Value) -> Result<()> {
    let mut failures = 0.0;
    for what in ["connects", "binds", "syns"] {
        failures += number(failed, what)?;
    }
    let counted = said::counted(lines, netns)?;
    ensure!(
        counted == failures,
        "{failures} failed, tracer counted {counted}"
    );
    let told: f64 = said::events(lines, netns).map(|event| event.count).sum();
    ensure!(told == failures, "{failures} failed, tracer told {told}");
    Ok(())
}

fn counts_all(lines: &[Line], failed: &Failed) -> Result<()> {
    counts_connects(lines, failed)?;
    is(counted(lines, "bound", failed.pid), failed.binds)
}

fn counts_connects(lines: &[Line], failed: &Failed) -> Result<()> {
    is(counted(lines, "failed", failed.pid), failed.connects)
}

/// tcpstates: each connect goes to SYN_SENT, and back.
fn shows_states(lines: &[Line], failed: &Failed) -> Result<()> {
    let pid = failed.pid.to_string();
    let is_one = |line: &&Line| {
        let words: Vec<&str> = line.1.split_whitespace().collect();
        words.contains(&&*pid) && line.1.contains("SYN_SENT")
    };
    is(
        lines.iter().filter(is_one).count() as f64,
        2.0 * failed.connects,
    )
}

/// `@name[pid]: count`, what bpftrace says of its maps at its end.
fn counted(lines: &[Line], name: &str, pid: u32) -> f64 {
    let entry = format!("@{name}[{pid}]: ");
    let count = |line: &Line| line.1.strip_prefix(&entry)?.parse().ok();
    lines.iter().find_map(count).unwrap_or_default()
}

fn is(seen: f64, wanted: f64) -> Result<()> {
    ensure!(seen == wanted, "the other one has seen {seen} of {wanted}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_bpftrace() {
        let lines = ["ready", "@failed[7]: 12", "@failed[77]: 5"];
        let lines = lines.map(|line| (0.0, line.to_owned()));
        assert_eq!(counted(&lines, "failed", 7), 12.0);
        assert_eq!(counted(&lines, "bound", 7), 0.0);
    }
}

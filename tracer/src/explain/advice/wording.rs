//! How are programs and numbers called in a sentence? Names that processes
//! chose become printable here.

use super::super::finding::{Owner, Part, Program};
use crate::{model::Process, output::sanitize::printable};

/// `nginx[812]`
pub(super) fn process(process: &Process) -> String {
    format!("{}[{}]", name(&process.comm), process.pid)
}

/// A process may have made its name empty.
fn name(comm: &[u8]) -> String {
    match comm {
        [] => "?".to_owned(),
        _ => printable(comm),
    }
}

/// `nginx[812]`, `curl (1204 processes)`
fn program(program: &Program) -> String {
    match (&program.named[..], program.count) {
        ([(one, _), ..], 1) => process(one),
        (_, count) => format!("{} ({count} processes)", name(&program.comm)),
    }
}

/// Whoever has a good part of these sockets, two at most; `None`: nobody known
/// has.
pub(super) fn who(part: &Part) -> Option<String> {
    let names: Vec<String> = part
        .holders
        .iter()
        .filter(|holder| holder.sockets.saturating_mul(4) >= part.sockets)
        .filter_map(|holder| match &holder.owner {
            Owner::Processes(named) => Some(program(named)),
            Owner::Kernel | Owner::NotAccepted | Owner::BeforeTracer | Owner::Unknown(_) => None,
        })
        .take(2)
        .collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// `1 port`, `2 ports`
pub(super) fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// `0.4/s`, `1200/s`
pub(super) fn rate(per_second: f64) -> String {
    let digits = usize::from(per_second < 10.0);
    format!("{per_second:.digits$}/s")
}

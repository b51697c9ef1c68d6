//! A diagnosis for people and as JSON (docs/doctor.md).

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::json;

use super::judge::{Diagnosis, Level};
use crate::{
    cli::Format,
    output::{print, sanitize::harmless},
    scope::NOT_SEEN,
};

/// Version of the object.
const VERSION: u32 = 1;

/// Writes it to standard output.
///
/// # Errors
/// That cannot be written. A closed standard output is no error: nobody reads on.
pub(super) fn show(format: Format, kernel: &str, diagnosis: &Diagnosis) -> anyhow::Result<()> {
    Ok(match format {
        Format::Text => print::whole(&text(kernel, diagnosis)),
        Format::Json => print::json(&object(kernel, diagnosis, Timestamp::now())),
    }?)
}

fn text(kernel: &str, diagnosis: &Diagnosis) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("tracer {version} on {kernel}\n");
    for check in &diagnosis.checks {
        let mark = match check.level {
            Level::Fine => "ok",
            Level::Unknown => "?",
            Level::Costs => "COSTS",
            Level::Stops => "STOPS",
        };
        // Writing to a String cannot fail. Paths are the only thing here that is not
        // tracer's or the kernel's own.
        let _ = writeln!(
            text,
            "{mark:<5}  {:<25}  {}",
            check.name,
            harmless(&check.found)
        );
        if let Some(cost) = &check.cost {
            let _ = writeln!(text, "{:34}→ {cost}", "");
        }
    }
    text += "not seen on any host:\n";
    for (what, instead) in NOT_SEEN {
        let _ = writeln!(text, "       {what} (see: {instead})");
    }
    text + &verdict(diagnosis) + "\n"
}

/// The one line.
fn verdict(diagnosis: &Diagnosis) -> String {
    let costs = diagnosis.costs();
    let unknown = match diagnosis.unknown() {
        0 => String::new(),
        1 => "; 1 thing is not known".to_owned(),
        many => format!("; {many} things are not known"),
    };
    match (&diagnosis.stopped, diagnosis.exit_code) {
        (Some(why), _) => format!("doctor: tracer cannot work here: {why}"),
        (None, 0) => format!("doctor: tracer can do all of its job here{unknown}"),
        (None, _) => {
            let costs = match costs {
                1 => "1 thing costs".to_owned(),
                many => format!("{many} things cost"),
            };
            format!(
                "doctor: tracer can do its job here, but not all of it: {costs} something{unknown}"
            )
        }
    }
}

fn object(kernel: &str, diagnosis: &Diagnosis, time: Timestamp) -> String {
    let checks = diagnosis.checks.iter().map(|check| {
        json!({
            "name": check.name,
            "level": check.level.name(),
            "found": check.found,
            "cost": check.cost,
        })
    });
    let object = json!({
        "v": VERSION,
        "type": "doctor",
        "time": format!("{time:.6}"),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel,
        "checks": checks.collect::<Vec<_>>(),
        "stopped": diagnosis.stopped,
        "exit_code": diagnosis.exit_code,
        "not_seen": NOT_SEEN.iter().map(|(what, _)| what).collect::<Vec<_>>(),
        "text": verdict(diagnosis),
    });
    object.to_string()
}

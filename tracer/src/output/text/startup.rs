//! What tracer says of itself when it starts.

use std::fmt::Write;

use crate::{
    host::plan::Tier,
    output::sanitize::{harmless, printable},
    probe::Served,
    record::{Status, Verified},
    startup::Startup,
};

/// One line on what was verified, then one for each purpose that failed or fell back.
pub(in crate::output) fn verified(of: &Verified) -> String {
    let all = of.purposes.len();
    let failed = of.with(Status::Failed).count();
    let mut text = match (of.verified(), failed) {
        (0, 0) => "tracer: not verified: whether the hooks see what they should".to_owned(),
        (verified, 0) => format!(
            "tracer: verified: every hook sees what it should ({verified} of {all} purposes)"
        ),
        (verified, failed) => format!(
            "tracer: verification FAILED for {failed} of {all} purposes; {verified} are verified"
        ),
    };
    // Many may have the same reason.
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in of.with(Status::NotVerified) {
        let reason = one.reason.as_deref().unwrap_or("not known why");
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, names)) => names.push(one.purpose.name()),
            None => reasons.push((reason, vec![one.purpose.name()])),
        }
    }
    for (reason, names) in reasons {
        let names = match names.len() == all {
            true => "every purpose".to_owned(),
            false => names.join(", "),
        };
        let _ = write!(
            text,
            "\ntracer: not verified: {names}: {}",
            harmless(reason)
        );
    }
    for one in &of.purposes {
        let name = one.purpose.name();
        let reason = harmless(one.reason.as_deref().unwrap_or_default());
        let now = match &one.by {
            Some(by) => format!("{} ({})", by.tier.name(), by.targets.join(" + ")),
            None => format!("nothing: {}", one.purpose.loss()),
        };
        let _ = match one.status {
            Status::Failed => write!(text, "\ntracer: FAILED: {name}: {reason}; served by {now}"),
            Status::Verified if one.reason.is_some() => {
                write!(
                    text,
                    "\ntracer: verified: {name}: {reason}; served by {now}"
                )
            }
            _ => Ok(()),
        };
    }
    text
}

/// One line on the hooks in use, then one for each thing that cannot be had.
pub(in crate::output) fn startup(startup: &Startup, verbose: bool) -> String {
    let tiers = [
        (Tier::Function, "function hooks"),
        (Tier::Kprobe, "kprobes"),
        (Tier::Portable, "tracepoints and cgroup_skb"),
    ];
    let used: Vec<String> = tiers
        .iter()
        .filter_map(|(tier, label)| {
            let is_used = |served: &&Served| served.by.as_ref().is_some_and(|by| by.tier == *tier);
            let served: Vec<_> = startup.served.iter().filter(is_used).collect();
            let names: Vec<_> = served.iter().map(|served| served.purpose.name()).collect();
            match names.len() {
                0 => None,
                all if all == startup.served.len() => Some(format!("{label} for everything")),
                _ => Some(format!("{label} for {}", names.join(", "))),
            }
        })
        .collect();
    let mut text = format!(
        "tracer on {}: {}",
        printable(startup.kernel.as_bytes()),
        used.join("; ")
    );
    for degradation in &startup.degradations {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\ntracer: {degradation}");
    }
    if verbose {
        for served in &startup.served {
            let by = served.by.as_ref().map(|by| by.targets.join(" + "));
            let _ = write!(
                text,
                "\ntracer: {}: {}{}",
                served.purpose.name(),
                by.as_deref().unwrap_or("nothing"),
                served
                    .reason
                    .as_ref()
                    .map(|why| format!(" (not better: {why})"))
                    .unwrap_or_default()
            );
        }
    }
    text
}

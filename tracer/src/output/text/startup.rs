//! What tracer says of itself when it starts.

use std::fmt::Write;

use crate::{host::plan::Tier, output::sanitize::printable, probe::Served, startup::Startup};

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

//! What it was measured on: the processor and the kernel, nothing that names
//! anybody's machine.

use anyhow::{Context as _, Result};
use std::fs;

/// One sentence.
pub(super) fn describe() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let field = |name: &str| {
        let (_, value) = processors
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(field, _)| field.trim() == name)?;
        Some(value.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "an unnamed processor".to_owned());
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let guest = match field("flags") {
        Some(flags) if flags.split(' ').any(|flag| flag == "hypervisor") => ", virtual",
        _ => "",
    };
    let busy = match load() {
        Some(load) if load > 1.0 => format!("; busy with other things, too (load {load})"),
        _ => String::new(),
    };
    let kernel = kernel.trim();
    Ok(format!(
        "{model}, {cores} cores{guest}; Linux {kernel}{busy}"
    ))
}

/// How many processes wanted to run in the last minute.
fn load() -> Option<f64> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split(' ').next()?.parse().ok()
}

//! What a process costs, as the kernel tells: processor, memory, its BPF programs and
//! maps.

use crate::run;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The kernel's unit in /proc/PID/stat, the same on every x86.
const TICKS: f64 = 100.0;

/// User and system time of `pid` so far, seconds.
pub(super) fn processor(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path)?;
    // The name in brackets may hold anything.
    let (_, rest) = text.rsplit_once(')').context("a stat without a name")?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// Resident memory in MB: now, and at its peak.
pub(super) fn memory(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    Ok((megabytes(&text, "VmRSS")?, megabytes(&text, "VmHWM")?))
}

/// What `pid` has allocated, in MB: of its files' pages the kernel keeps as many as it
/// likes.
pub(super) fn allocated(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    megabytes(&text, "RssAnon")
}

/// What a process has open, and its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

/// Of `pid`, now.
pub(super) fn held(pid: u32) -> Result<Held> {
    let entries = |what: &str| -> Result<usize> {
        let path = format!("/proc/{pid}/{what}");
        Ok(fs::read_dir(&path).context(path)?.count())
    };
    Ok(Held {
        descriptors: entries("fd")?,
        threads: entries("task")?,
    })
}

fn megabytes(status: &str, field: &str) -> Result<f64> {
    let kilobytes = value(status, field).and_then(|text| text.strip_suffix(" kB"));
    let kilobytes: f64 = kilobytes.with_context(|| format!("no {field}"))?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// `name: value`
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of_line = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    text.lines().find_map(of_line).map(str::trim)
}

/// What one BPF program has done while statistics were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Runs {
    pub(super) count: f64,
    pub(super) nanoseconds: f64,
}

/// The programs that `pid` holds, by id.
pub(super) fn programs(pid: u32) -> Result<BTreeMap<u64, Runs>> {
    let mut programs = BTreeMap::new();
    for text in descriptors(pid)? {
        // Links name their programs, too, but say nothing of their runs.
        let number = |name| value(&text, name).and_then(|text| text.parse::<f64>().ok());
        let (Some(id), Some(count)) = (value(&text, "prog_id"), number("run_cnt")) else {
            continue;
        };
        let nanoseconds = number("run_time_ns").unwrap_or_default();
        programs.insert(id.parse()?, Runs { count, nanoseconds });
    }
    Ok(programs)
}

/// The kernel's memory for the maps that `pid` holds, MB.
pub(super) fn maps(pid: u32) -> Result<f64> {
    let mut bytes = 0.0;
    for text in descriptors(pid)? {
        if let (Some(_), Some(memory)) = (value(&text, "map_type"), value(&text, "memlock")) {
            bytes += memory.parse::<f64>()?;
        }
    }
    Ok(bytes / 1e6)
}

/// What the kernel says about each descriptor.
fn descriptors(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/fdinfo");
    let mut texts = Vec::new();
    for entry in fs::read_dir(&path).context(path)? {
        // It may have been closed since.
        texts.extend(fs::read_to_string(entry?.path()));
    }
    Ok(texts)
}

/// The names of all loaded programs, by id.
pub(super) fn names() -> Result<BTreeMap<u64, String>> {
    let text = run::capture(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    let all: Value = serde_json::from_str(&text)?;
    let all = all.as_array().into_iter().flatten();
    let named = |program: &Value| {
        let name = program["name"].as_str().unwrap_or("unnamed");
        Some((program["id"].as_u64()?, name.to_owned()))
    };
    Ok(all.filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells() -> Result<()> {
        let status = "Name:\ta\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(megabytes(status, "VmHWM")?, 2.048);
        assert!(megabytes(status, "VmSwap").is_err());
        let program = "prog_id:\t7\nrun_time_ns:\t900\nrun_cnt:\t3\n";
        assert_eq!(value(program, "run_cnt"), Some("3"));
        assert_eq!(value(program, "run"), None);
        let own = std::process::id();
        assert!(processor(own)? >= 0.0 && memory(own)?.1 > allocated(own)? && maps(own)? == 0.0);
        assert_eq!(programs(own)?, BTreeMap::new());
        assert!(held(own)?.threads > 0);
        Ok(())
    }
}

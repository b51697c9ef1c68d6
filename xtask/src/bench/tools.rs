//! What measures and what is measured: programs, and the place they run in.

use super::measure;
use super::watched::Watched;
use crate::place::Place;
use crate::run;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From Debian. Files with whole paths: other machines have other programs of these names.
const PROGRAMS: [(&str, &str); 8] = [
    (measure::PROGRAM, "time"),
    ("/usr/bin/bpftrace", "bpftrace"),
    ("/usr/sbin/bpftool", "bpftool"),
    (TCPSTATES, "libbpf-tools"),
    (BCC, "bpfcc-tools"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/ss", "iproute2"),
    ("/usr/bin/awk", "mawk"),
];

/// bcc brings a compiler, and does not run on every machine: it is not installed for a
/// test.
const TRACERS: [(&str, &str); 2] = [
    ("/usr/bin/bpftrace", "bpftrace"),
    (TCPSTATES, "libbpf-tools"),
];

const TCPSTATES: &str = "/usr/sbin/tcpstates";
const BCC: &str = "/usr/sbin/tcpstates-bpfcc";

const TRACING: &str = "/sys/kernel/tracing";

/// The programs.
#[derive(Debug)]
pub(super) struct Tools {
    /// tracer, as users have it.
    pub(super) tracer: String,
    /// Whose `--role load` makes the loads.
    pub(super) live: PathBuf,
    /// For files, gone at the end.
    pub(super) directory: PathBuf,
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Tools {
    /// Needs root, and a mount namespace of its own.
    pub(super) fn new(place: &Place, tracer: &str, live: &str) -> Result<Self> {
        Self::with(place, tracer, live, &PROGRAMS)
    }

    /// The same, but only tracers.
    pub(super) fn tracers(place: &Place, tracer: &str, live: &str) -> Result<Self> {
        Self::with(place, tracer, live, &TRACERS)
    }

    fn with(place: &Place, tracer: &str, live: &str, programs: &[(&str, &str)]) -> Result<Self> {
        run::need_programs(programs)?;
        // tracer finds its hooks without; the others do not.
        if fs::read_dir(TRACING).is_ok_and(|mut files| files.next().is_none()) {
            run::capture(Command::new("mount").args(["-t", "tracefs", "tracing", TRACING]))?;
        }
        Self::alone(place, tracer, live)
    }

    /// Nothing beside tracer.
    pub(super) fn alone(place: &Place, tracer: &str, live: &str) -> Result<Self> {
        let own = std::process::id().to_string();
        let directory = place.cache.join("bench-inside").join(own);
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            tracer: tracer.to_owned(),
            live: Path::new(live).to_owned(),
        })
    }
}

/// A way to look at the machine while a load runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Nothing,
    /// `tracer watch` with flags.
    Tracer(&'static [&'static str]),
    /// A script.
    Bpftrace(&'static str),
    /// libbpf-tools' tcpstates: prints each change of a state.
    Tcpstates,
    /// The same in Python, compiled when it starts.
    Bcc,
}

impl Way {
    /// Once it is attached.
    pub(super) fn start(self, tools: &Tools) -> Result<Option<Watched>> {
        Ok(Some(match self {
            Self::Nothing => return Ok(None),
            Self::Tracer(flags) => Watched::tracer(&tools.tracer, flags)?,
            Self::Bpftrace(script) => Watched::bpftrace(script)?,
            // Their titles may stay in a buffer, if nobody forbids it.
            Self::Tcpstates => Watched::start(&["stdbuf", "-oL", TCPSTATES], "SKADDR")?,
            Self::Bcc => Watched::start(&["env", "PYTHONUNBUFFERED=1", BCC], "SKADDR")?,
        }))
    }
}

/// The one in the middle.
pub(super) fn median(mut numbers: Vec<f64>) -> Result<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.get(numbers.len() / 2).copied();
    middle.context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() -> Result<()> {
        assert_eq!(median(vec![9.0, 1.0, 2.0])?, 2.0);
        assert!(median(Vec::new()).is_err());
        Ok(())
    }
}

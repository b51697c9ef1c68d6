//! Loads and attaches one program.

use anyhow::{Context, Result};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, FEntry, FExit, KProbe, Program, ProgramError,
    RawTracePoint, TracePoint,
};

use super::Place;
use crate::host::{mounts, plan::Target};

/// # Errors
/// The kernel refuses to load or to attach; the error is the kernel's.
pub(super) fn load_and_attach(program: &mut Program, target: Target, place: &Place) -> Result<()> {
    match target {
        Target::Fentry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, &place.btf).map_err(brief)?;
            program.attach().map_err(brief)?;
        }
        Target::Fexit(function) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, &place.btf).map_err(brief)?;
            program.attach().map_err(brief)?;
        }
        Target::Kprobe(function) | Target::Kretprobe(function) => {
            let program: &mut KProbe = program.try_into()?;
            program.load().map_err(brief)?;
            program.attach(function, 0).map_err(brief)?;
        }
        Target::RawTracepoint(name) => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load().map_err(brief)?;
            program.attach(name).map_err(brief)?;
        }
        Target::Tracepoint(category, name) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load().map_err(brief)?;
            // aya takes one that may not be read for one that is not there.
            mounts::tracefs_is_readable()
                .map_err(|error| anyhow::anyhow!(without_number(&error)))?;
            program.attach(category, name).map_err(brief)?;
        }
        Target::CgroupIngress => {
            let cgroup = place
                .cgroup
                .as_ref()
                .context("no cgroup2 file system is mounted")?;
            let program: &mut CgroupSkb = program.try_into()?;
            program.load().map_err(brief)?;
            // Flags 0: a link shares the cgroup with other programs anyway, and
            // asking for BPF_F_ALLOW_MULTI on a link is EINVAL.
            program
                .attach(
                    cgroup,
                    CgroupSkbAttachType::Ingress,
                    CgroupAttachMode::Single,
                )
                .map_err(brief)?;
        }
    }
    Ok(())
}

/// Takes a program out of the kernel again, with everything it is attached to.
pub(super) fn unload(program: &mut Program) {
    // A program that was never loaded is an error to aya, and fine here.
    let _ = match program {
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::CgroupSkb(program) => program.unload(),
        _ => Ok(()),
    };
}

/// The kernel's own words where there are some: what wraps them in aya's error
/// is for the developers of aya programs.
fn brief(error: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = &error
    {
        let log = verifier_log.to_string();
        let why = without_number(io_error);
        return match refusal(&log) {
            Some(sentence) => anyhow::anyhow!("{why} ({sentence})"),
            None => anyhow::anyhow!(why),
        };
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return anyhow::anyhow!(without_number(io));
        }
        source = inner.source();
    }
    error.into()
}

/// The verifier's last sentence before its statistics.
fn refusal(log: &str) -> Option<&str> {
    let is_statistics = |line: &&str| {
        ["processed ", "verification time ", "stack depth "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !is_statistics(line))
}

/// std appends ` (os error N)` to the kernel's words.
fn without_number(error: &std::io::Error) -> String {
    let message = error.to_string();
    message
        .split(" (os error ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_sentence_is_found() {
        let log =
            "0: (b7) r0 = 0\nR1 invalid mem access 'inv'\nprocessed 9 insns (limit 1000000)\n\n";
        assert_eq!(refusal(log), Some("R1 invalid mem access 'inv'"));
        assert_eq!(refusal("processed 9 insns\n"), None);
        assert_eq!(refusal(""), None);
    }

    #[test]
    fn numbers_are_left_out() {
        let error = std::io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(without_number(&error), "Operation not permitted");
    }
}

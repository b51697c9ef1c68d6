//! Runs of programs that the kernel left out: it does not run a program on top of itself.

use std::{fs, os::fd::AsRawFd};

use aya::Ebpf;

use crate::host::plan::Purpose;

/// What the hooks of a purpose missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) purpose: Purpose,
    /// Runs of its programs that the kernel left out; each may have been a failure.
    pub(crate) runs: u64,
}

/// How many runs of a loaded program were left out; 0 where the kernel does not count them
/// (before 5.12), as for returns that a kretprobe had no instance for.
pub(super) fn runs(bpf: &Ebpf, program: &str) -> u64 {
    let fd = bpf.program(program).and_then(|program| program.fd().ok());
    let Some(fd) = fd.map(|fd| std::os::fd::AsFd::as_fd(fd).as_raw_fd()) else {
        return 0;
    };
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
    text.ok().and_then(|text| parse(&text)).unwrap_or(0)
}

/// The field of a program's fdinfo (bpf_prog_show_fdinfo, kernel/bpf/syscall.c).
fn parse(fdinfo: &str) -> Option<u64> {
    let mut lines = fdinfo.lines();
    let number = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found() {
        let text =
            "pos:\t0\nprog_type:\t17\nrun_cnt:\t9\nrecursion_misses:\t42\nverified_insns:\t7\n";
        assert_eq!(parse(text), Some(42));
        assert_eq!(parse("pos:\t0\nprog_type:\t17\n"), None);
        assert_eq!(parse("recursion_misses:\tmany\n"), None);
    }
}

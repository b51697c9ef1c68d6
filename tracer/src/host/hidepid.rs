//! Does /proc show other users' processes? (`hidepid` and `gid`, proc(5))

use std::fs;

/// What it costs that it does not.
pub(crate) const COST: &str = "/proc hides other users' processes (hidepid): they are named as the kernel names them, without exe, cmdline and container, and who holds sockets is not known; give tracer CAP_SYS_PTRACE, or the group that /proc was mounted for (gid=)";

/// Whether this process is kept from seeing them. Capabilities and groups count, so it
/// is tried: the first process is somebody else's.
pub(crate) fn hides() -> bool {
    let is_shown = |process| fs::read(format!("/proc/{process}/stat")).is_ok();
    is_shown("self") && !is_shown("1")
}

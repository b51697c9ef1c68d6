//! Does /proc show the processes that the kernel side names?

use std::fs;

/// What it costs that it does not.
pub(crate) const COST: &str = "this is a pid namespace of its own (a container's): processes outside of it are named as the kernel names them, without exe and cmdline, which sockets they hold is not known, and those inside have other numbers as holders than as callers; run it in the host's pid namespace (docker --pid=host, hostPID: true)";

/// What it costs where a command is traced.
pub(crate) const COST_OF_COMMAND: &str = "the processes of the command cannot be recognised in a pid namespace of its own: failures of all processes are reported";

/// Whether this is the host's pid namespace. The first one has a fixed number
/// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h). `None`: /proc does not tell.
pub(crate) fn is_hosts() -> Option<bool> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()? == "pid:[4026531836]")
}

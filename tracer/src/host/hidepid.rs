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

/// The option of the mount that /proc is.
pub(crate) fn option(mountinfo: &str) -> Option<String> {
    let mount = mountinfo.lines().rfind(|line| {
        let point = line.split(' ').nth(4);
        point == Some("/proc") && line.contains(" - proc ")
    })?;
    let options = mount.rsplit(' ').next()?;
    let value = options
        .split(',')
        .find_map(|option| option.strip_prefix("hidepid="))?;
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_of_proc_is_found() {
        let mountinfo = |options| format!("22 27 0:21 / /proc rw,relatime - proc proc {options}\n");
        let option = |options| option(&mountinfo(options));
        assert_eq!(option("rw"), None);
        assert_eq!(
            option("rw,gid=4,hidepid=invisible").as_deref(),
            Some("invisible")
        );
        assert_eq!(option("rw,hidepid=2").as_deref(), Some("2"));
        assert_eq!(super::option(""), None);
    }
}

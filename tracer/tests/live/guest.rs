//! The duties of pid 1 in a virtual machine, and the way out of any run.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{limits, netns, say, sys};

const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("tracefs", "/sys/kernel/tracing", "tracefs"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
    ("securityfs", "/sys/kernel/security", "securityfs"),
    ("tmpfs", "/tmp", "tmpfs"),
];

/// Mounts what tracer and the tests read, loads modules, sets `lo` up.
pub(crate) fn set_up() -> Result<()> {
    for (kind, target, source) in MOUNTS {
        let _ = std::fs::create_dir_all(target);
        if let Err(error) = mount(source, target, kind, 0) {
            // Kernels mount some of these themselves.
            if error.raw_os_error() != Some(libc::EBUSY) {
                say::remark(&format!("mount {kind} on {target}: {error}"));
            }
        }
    }
    load_modules();
    netns::set_up("lo")
}

/// The arguments on the kernel's command line: `live.args=a,b,c`.
pub(crate) fn arguments() -> Result<Vec<String>> {
    let line = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    Ok(line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("live.args="))
        .map(|words| {
            words
                .split(',')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default())
}

fn load_modules() {
    let Ok(order) = std::fs::read_to_string("/modules.order") else {
        return;
    };
    for path in order.lines().map(str::trim).filter(|path| !path.is_empty()) {
        if let Err(error) = load_module(path) {
            say::remark(&format!("module {path}: {error}"));
        }
    }
}

fn load_module(path: &str) -> io::Result<()> {
    /// The kernel unpacks .xz and .zst itself.
    const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
    let file = std::fs::File::open(path)?;
    let flags = if path.ends_with(".ko") {
        0
    } else {
        MODULE_INIT_COMPRESSED_FILE
    };
    let fd = file.as_raw_fd();
    // SAFETY: a descriptor, an empty C string, a number.
    let ret = unsafe { libc::syscall(libc::SYS_finit_module, fd, c"".as_ptr(), flags) };
    match sys::check_long(ret) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// mount(2) without data.
pub(crate) fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
) -> io::Result<()> {
    mount_with(source, target, kind, flags, "")
}

/// mount(2) with options of the file system.
pub(crate) fn mount_with(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let options = CString::new(options)?;
    let source = CString::new(source)?;
    let target = CString::new(target)?;
    let kind = CString::new(kind)?;
    // SAFETY: four live C strings.
    let ret = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    sys::check(ret).map(|_| ())
}

/// umount(2)
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: a live C string.
    sys::check(unsafe { libc::umount(target.as_ptr()) }).map(|_| ())
}

/// Ends the run: as pid 1 by switching the machine off.
pub(crate) fn leave(code: i32) -> ! {
    if limits::in_guest() {
        say::line(&format!("live-exit {code}"));
        // SAFETY: no arguments.
        unsafe { libc::sync() };
        // SAFETY: no memory is passed; as pid 1 this does not return.
        unsafe { libc::reboot(libc::RB_POWER_OFF) };
    }
    std::process::exit(code)
}

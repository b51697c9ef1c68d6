//! What is mounted where? Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Users may mount, too (fuse), where they like: a path that is no text must hide
//! no other line.

use std::{fs, path::PathBuf};

/// The text, as far as it is one; empty if /proc does not tell.
pub(crate) fn read() -> String {
    let bytes = fs::read("/proc/self/mountinfo").unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount point of the cgroup2 hierarchy's root: a mount of a subtree would miss
/// sockets.
pub(crate) fn cgroup2_root(mountinfo: &str) -> Option<PathBuf> {
    let is_root = |mount: &Mount<'_>| mount.kind == "cgroup2" && mount.root == "/";
    mounts(mountinfo).find(is_root).map(|mount| mount.path())
}

/// Where a file system of this kind is mounted.
pub(crate) fn mount_of(mountinfo: &str, kind: &str) -> Option<PathBuf> {
    let mut mounts = mounts(mountinfo);
    mounts
        .find(|mount| mount.kind == kind)
        .map(|mount| mount.path())
}

/// The option `hidepid` of the mount that /proc is.
pub(crate) fn hidepid(mountinfo: &str) -> Option<String> {
    let is_proc = |mount: &Mount<'_>| mount.point == "/proc" && mount.kind == "proc";
    let mount = mounts(mountinfo).filter(is_proc).last()?;
    let mut options = mount.options.split(',');
    let value = options.find_map(|option| option.strip_prefix("hidepid="))?;
    Some(value.to_owned())
}

/// A line.
struct Mount<'a> {
    /// What of the file system is mounted.
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    /// The file system's own.
    options: &'a str,
}

impl Mount<'_> {
    fn path(&self) -> PathBuf {
        PathBuf::from(unescape(self.point))
    }
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split('\n').filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        Some(Mount {
            root: mount.next()?,
            point: mount.next()?,
            kind: file_system.split(' ').next()?,
            options: file_system.rsplit(' ').next()?,
        })
    })
}

/// The kernel writes blanks, tabs, ends of lines and backslashes in paths as `\040`:
/// three octal digits (mangle_path, fs/seq_file.c).
fn unescape(path: &str) -> String {
    let mut pieces = path.split('\\');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece.get(..3).filter(|digits| is_octal(digits));
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => plain.extend([char::from(byte).to_string().as_str(), &piece[3..]]),
            None => plain.extend(["\\", piece]),
        }
    }
    plain
}

fn is_octal(digits: &str) -> bool {
    digits.bytes().all(|digit| (b'0'..b'8').contains(&digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_root_of_cgroup2_among_mounts() {
        let mountinfo = "\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
30 24 0:26 /docker/x /mnt/part rw - cgroup2 cgroup2 rw
31 24 0:26 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 - cgroup2 cgroup2 rw
";
        assert_eq!(
            cgroup2_root(mountinfo),
            Some(PathBuf::from("/sys/fs/cgroup/uni fied"))
        );
        assert_eq!(
            mount_of(mountinfo, "cgroup2"),
            Some(PathBuf::from("/mnt/part"))
        );
        assert_eq!(cgroup2_root("24 1 0:22 / /sys rw - sysfs sysfs rw"), None);
        assert_eq!(cgroup2_root("nonsense\n\n - \n"), None);
    }

    #[test]
    fn paths_are_as_they_were() {
        for (written, path) in [
            (r"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
            (r"/\134040", r"/\040"),
            (r"/\\04", r"/\\04"),
            (r"/\4é\900", r"/\4é\900"),
            (r"/\777", r"/\777"),
            ("", ""),
        ] {
            assert_eq!(unescape(written), path, "{written}");
        }
    }

    #[test]
    fn the_option_of_proc_is_found() {
        let mountinfo = |options| format!("22 27 0:21 / /proc rw,relatime - proc proc {options}\n");
        let option = |options| hidepid(&mountinfo(options));
        assert_eq!(option("rw"), None);
        assert_eq!(option("rw,hidepid=2").as_deref(), Some("2"));
        assert_eq!(
            option("rw,gid=5,hidepid=invisible").as_deref(),
            Some("invisible")
        );
    }
}

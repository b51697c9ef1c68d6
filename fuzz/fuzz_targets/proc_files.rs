//! Any bytes as a file of /proc: what is read of it, written as the kernel writes it, is
//! read as the same; and what a process chooses itself (its name, its arguments, where it
//! mounts) stays what it is and changes nothing else.

#![no_main]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::proc_files::*;

/// Bytes that are kept of a command line, and what stands for the rest.
const CMDLINE: usize = 4096;
const REST: &[u8] = b"...";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    check_stat(bytes);
    check_arguments(bytes);
    check_status(bytes);
    check_netstat(&text);
    check_mounts(bytes, &text);
    check_settings(&text);
    for line in text.split('\n').take(64) {
        check_socket(line);
    }
    if let Some(inode) = socket_inode(bytes) {
        assert_eq!(
            socket_inode(format!("socket:[{inode}]").as_bytes()),
            Some(inode)
        );
    }
});

/// PF_KTHREAD.
const KERNEL_THREAD: u32 = 0x0020_0000;

fn check_stat(bytes: &[u8]) {
    let stat_of = |comm: &[u8], flags: u32, start: u64| {
        let rest =
            format!(") S 1 2 3 4 5 {flags} 7 8 9 10 11 12 13 14 15 16 17 18 {start} 20 21\n");
        stat(&[b"42 (", comm, rest.as_bytes()].concat())
    };
    if let Some((comm, start, is_kernel)) = stat(bytes) {
        let flags = if is_kernel { KERNEL_THREAD } else { 0 };
        let again = stat_of(&comm, flags, start);
        assert_eq!(again, Some((comm, start, is_kernel)));
    }
    // Whatever a process calls itself, numbers in it are not its own.
    let name = &bytes[..bytes.len().min(15)];
    assert_eq!(stat_of(name, 0, 4711), Some((name.to_vec(), 4711, false)));
}

fn check_arguments(bytes: &[u8]) {
    let kept = arguments(bytes);
    assert!(!kept.contains(&0));
    assert!(kept.len() <= CMDLINE + REST.len());
    let is_short = bytes.len() <= CMDLINE;
    let whole = if is_short { bytes } else { &bytes[..CMDLINE] };
    let expected: Vec<u8> = whole
        .iter()
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect();
    if is_short {
        assert!(expected.starts_with(&kept));
        assert!(whole[kept.len()..].iter().all(|byte| *byte == 0));
    } else {
        assert_eq!(kept, [&expected, REST].concat());
    }
}

fn check_status(bytes: &[u8]) {
    let status = |name: &[u8], uid: u32| {
        let rest = format!("\nUmask:\t0022\nTgid:\t7\nUid:\t{uid}\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
        [b"Name:\t", name, rest.as_bytes()].concat()
    };
    if let Some(told) = uid(bytes) {
        assert_eq!(uid(&status(b"x", told)), Some(told));
    }
    // The kernel escapes ends of lines in a name, and backslashes.
    let name = bytes[..bytes.len().min(15)]
        .iter()
        .flat_map(|byte| match byte {
            b'\n' => b"\\n".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            byte => vec![*byte],
        });
    assert_eq!(uid(&status(&name.collect::<Vec<_>>(), 33)), Some(33));
}

fn check_netstat(text: &str) {
    let Some([overflows, drops, full]) = netstat(text) else {
        return;
    };
    let written = format!(
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\n\
         TcpExt: 18446744073709551615 {overflows} {drops} {full}\nIpExt: InNoRoutes\nIpExt: 1\n"
    );
    assert_eq!(netstat(&written), Some([overflows, drops, full]));
}

fn check_mounts(bytes: &[u8], text: &str) {
    // As they are, any line may be anything.
    for kind in ["tracefs", "cgroup2"] {
        let found = mount_of(text, kind);
        assert!(found.is_none() || text.contains(&format!(" - {kind}")));
    }
    assert!(cgroup2_root(text).is_none() || mount_of(text, "cgroup2").is_some());
    if let Some(option) = hidepid(text) {
        assert!(text.contains(&format!("hidepid={option}")));
    }
    // Somebody's mount: nobody else's line is hidden by it, or looks like another.
    let own = escaped(bytes);
    let ours = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                22 27 0:21 / /proc rw - proc proc rw,hidepid=2\n";
    let line = format!("29 24 0:25 / /home/{own} rw - fuse.{own} {own} rw,user_id=1\n");
    let table = [&line, ours].concat();
    assert_eq!(
        cgroup2_root(&table).as_deref(),
        Some(Path::new("/sys/fs/cgroup"))
    );
    assert_eq!(hidepid(&table).as_deref(), Some("2"));
    // Where it is mounted is read as it was.
    if let Ok(path) = std::str::from_utf8(bytes) {
        let table = format!("29 24 0:25 / /{own} rw - tracefs tracefs rw\n");
        let point = format!("/{path}");
        assert_eq!(
            mount_of(&table, "tracefs").as_deref(),
            Some(Path::new(&point))
        );
    }
}

/// As the kernel escapes a path or a name (mangle_path, fs/seq_file.c).
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            ' ' | '\t' | '\n' | '\\' | '#' => {
                let _ = write!(text, "\\{:03o}", u32::from(character));
            }
            character => text.push(character),
        }
    }
    text
}

fn check_settings(text: &str) {
    if let Some((low, high)) = port_range(text) {
        assert!(low <= high);
        assert_eq!(port_range(&format!("{low}\t{high}\n")), Some((low, high)));
    }
    let ranges = reserved_ports(text);
    assert!(ranges.iter().all(|(low, high)| low <= high), "{ranges:?}");
    let written = ranges.iter().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    });
    let written: Vec<String> = written.collect();
    assert_eq!(reserved_ports(&written.join(",")), ranges);
}

fn check_socket(line: &str) {
    let Some(read) = socket(line) else {
        return;
    };
    let again = format!(
        "  7: {} {} {:02X} {:08X}:{:08X} 01:{:08X} 00000000 {:5} 0 {} 1 0000000000000000 100 0 0 10 0",
        end(read.local),
        end(read.remote),
        read.state,
        read.queues[0],
        read.queues[1],
        read.timer_ms / 10,
        read.uid,
        read.inode
    );
    // What is more than the kernel can tell is cut off.
    let timer_ms = read.timer_ms / 10 * 10;
    assert_eq!(socket(&again), Some(Socket { timer_ms, ..read }));
    const LISTEN: u8 = 10;
    let expected = Some(read.inode).filter(|_| read.state == LISTEN);
    assert_eq!(listener(&again), expected);
}

/// `0100007F:1F90`
fn end(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.chunks_exact(4) {
        let word: [u8; 4] = word.try_into().expect("four of them");
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(word));
    }
    let _ = write!(text, ":{:04X}", address.port());
    text
}

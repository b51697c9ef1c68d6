//! Names that would drive a terminal, on a terminal, in every verb that shows them; and
//! one that would make a file of /proc unreadable.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::case::Skip;
use crate::netns::Namespace;
use crate::record::Directory;
use crate::role::Role;
use crate::{cli, guest, limits, sys, tracer, trust};

/// A name (the kernel keeps 15 bytes), and what of it is to be seen: the clipboard,
/// the screen, the order of letters, no UTF-8, a control of one byte and of two,
/// nothing but escapes, and the end of a line with a line of tracer's own after it.
const NAMES: [(&[u8], &str); 7] = [
    (b"\x1b]52;c;QUJD\x07", r"\x1b]52;c;QUJD\x07"),
    (b"\x1b[2J\x1b[1;31mred", r"\x1b[2J\x1b[1;31mred"),
    ("\u{202e}pxe\u{2066}".as_bytes(), r"\u{202e}pxe\u{2066}"),
    (b"\xff\xfe\xc3(\x80", r"\xff\xfe\xc3(\x80"),
    (b"\x9b31m\xc2\x9b31m\x7f", r"\x9b31m\u{9b}31m\x7f"),
    (
        &[0x1b; 15],
        r"\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b",
    ),
    (b"a\r\n-- totals", r"a\x0d\x0a-- totals"),
];

/// Somebody has mounted something where the path is no text: what is mounted elsewhere
/// is found all the same.
pub(crate) fn mount(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let point = directory.path.join(OsStr::from_bytes(b"\xff\n - "));
    std::fs::create_dir(&point)?;
    let found = |is_mounted: bool| -> Result<Vec<(String, String)>> {
        let mut command = tracer::verb(path, "doctor");
        command.args(["--format", "json"]).current_dir(&point);
        if is_mounted {
            mount_here(&mut command);
        }
        let object = trust::diagnosis(&cli::output(&mut command)?)?;
        let names = ["cgroup2", "tracefs", "syn_drop"].iter();
        names.map(|name| trust::level(&object, name)).collect()
    };
    let (without, with) = (found(false)?, found(true)?);
    ensure!(without == with, "{without:?}, but then {with:?}");
    Ok(())
}

/// A file system on the command's directory, in a mount namespace of its own.
fn mount_here(command: &mut Command) {
    let mount = || {
        // SAFETY: between fork and exec there is one thread, whose mounts become private.
        sys::check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        guest::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)?;
        guest::mount("none", ".", "tmpfs", 0)
    };
    // SAFETY: as for `cli::hide_btf`.
    unsafe { command.pre_exec(mount) };
}

/// Runs it on a terminal and returns what that got.
fn shown(command: &mut Command) -> Result<(ExitStatus, Vec<u8>)> {
    let (near, far) = match sys::terminal() {
        Ok(ends) => ends,
        Err(error) => return Err(Skip::because(format!("no terminal to be had: {error}"))),
    };
    // Colours are tracer's own escapes; without them there must be none at all.
    command.env("NO_COLOR", "1");
    command.stdout(far.try_clone()?).stderr(far.try_clone()?);
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // Ends with an error when no program has the other end any more.
        let _ = File::from(near).read_to_end(&mut bytes);
        bytes
    });
    let status = command.spawn().map(|child| (child, far));
    // The command keeps its copies of the far end until it is dropped or set anew.
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let status = status.and_then(|(mut child, far)| {
        drop(far);
        child.wait()
    })?;
    let bytes = reader.join().ok().context("the terminal was not read")?;
    Ok((status, bytes))
}

/// Nothing but lines of visible text.
fn is_harmless(what: &str, bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).with_context(|| format!("{what}: no UTF-8"))?;
    let acts = |character: char| {
        let reorders = matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        reorders || character.is_control() && !matches!(character, '\r' | '\n')
    };
    let found = text.chars().position(acts);
    ensure!(found.is_none(), "{what}: character {found:?} of {text:?}");
    // The terminal makes \r\n of \n, CSV has its own \r\n, and there is no other \r.
    let text = text.replace("\r\r\n", "\r\n");
    let (returns, ends) = (text.matches('\r').count(), text.matches("\r\n").count());
    ensure!(returns == ends, "{what}: {text:?}");
    Ok(())
}

/// As above, and every name can be seen as it is written there.
fn has_all(what: &str, bytes: &[u8]) -> Result<()> {
    is_harmless(what, bytes)?;
    let text = String::from_utf8_lossy(bytes);
    for (_, name) in NAMES {
        // A file of JSON has a sign of its own for what is no UTF-8.
        let mut kept = name.to_owned();
        for byte in ["ff", "fe", "c3", "80", "9b"] {
            kept = kept.replace(&format!(r"\x{byte}"), "\u{fffd}");
        }
        let is_seen = text.contains(name) || text.contains(&kept);
        ensure!(is_seen, "{what}: {name} is not in {text}");
    }
    Ok(())
}

/// Every verb that shows names.
pub(crate) fn names(path: &Path) -> Result<()> {
    let space = Namespace::new()?;
    space.four_ports()?;
    let listener = Role::start_as(&space, NAMES[0].0)?;
    listener.ok("listener tcp4 127.0.0.1:8080 64")?;
    let user = Role::start_as(&space, NAMES[0].0)?;
    ensure!(user.connects("tcp4", 4, "127.0.0.1:8080")?.begun.len() == 4);
    let roles: Vec<Role> = NAMES
        .iter()
        .map(|(name, _)| Role::start_as(&space, name))
        .collect::<Result<_>>()?;
    let directory = Directory::new()?;
    let file = directory.path.join("hostile.zst");
    let netns = space.inum.to_string();
    let fail = || -> Result<()> {
        for role in &roles {
            // Holds a port that nobody can have, and cannot connect.
            let fd = role.ok("socket tcp4")?;
            role.fails(&format!("connect {fd} 127.0.0.1:8080"), libc::EADDRNOTAVAIL)?;
        }
        Ok(())
    };
    // Failures go on until all were there.
    let (watched, text) = thread::scope(|scope| -> Result<_> {
        let watching = scope.spawn(|| {
            let mut command = tracer::command(path);
            command.args([
                "--plain",
                "--netns",
                &netns,
                "--verbose",
                "--count",
                "7",
                "-w",
            ]);
            shown(command.arg(&file))
        });
        let _ = limits::until("all failures", || {
            fail()?;
            thread::sleep(Duration::from_millis(300));
            Ok(watching.is_finished())
        });
        watching.join().ok().context("watch was not watched")?
    })?;
    ensure!(
        watched.success(),
        "{watched}: {}",
        String::from_utf8_lossy(&text)
    );
    has_all("watch", &text)?;
    let on_file = |verb: &str, arguments: &[&str]| -> Result<Vec<u8>> {
        let (status, bytes) = shown(tracer::verb(path, verb).args(arguments).arg(&file))?;
        ensure!(status.success(), "{verb} {arguments:?}: {status}");
        Ok(bytes)
    };
    has_all("replay", &on_file("replay", &["--plain"])?)?;
    has_all("report", &on_file("report", &["--top", "20"])?)?;
    for (verb, arguments) in [
        ("replay", &["--format", "json"][..]),
        ("report", &["--format", "json"]),
        ("report", &["--format", "html"]),
        ("export", &["--format", "jsonl"]),
        ("export", &["--format", "csv"]),
    ] {
        is_harmless(verb, &on_file(verb, arguments)?)?;
    }
    for verb in ["ports", "listeners"] {
        for arguments in [&[][..], &["--format", "json"]] {
            let (status, bytes) = shown(tracer::verb(path, verb).args(arguments))?;
            ensure!(status.success(), "{verb}: {status}");
            is_harmless(verb, &bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            ensure!(text.contains("]52;c;QUJD"), "{verb}: {text}");
        }
    }
    Ok(())
}

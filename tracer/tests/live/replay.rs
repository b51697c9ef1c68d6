//! `tracer replay` of files made here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::cli::{Desert, fail_once};
use crate::record::Directory;
use crate::{limits, tracer};

const STARTUP: &str = r#"{"v":1,"type":"startup","time":"2026-11-21T03:00:00.000000Z","version":"0.1.0","kernel":"6.1.0","arch":"x86_64","boot_id":"b","host":"h","hooks":[{"purpose":"bind","tier":"portable","programs":["sys_exit"],"exactness":"exact","reason":null}],"degradations":["closers are not seen"]}"#;

const EVENT: &str = r#"{"v":1,"type":"event","time":"2026-11-21T03:00:01.250000Z","kind":"bind_failed","cause":"port_in_use","errno":"EADDRINUSE","count":1,"process":{"pid":7,"tid":7,"comm":"a\u001b[31mpi","exe":null,"cmdline":null,"uid":0,"kernel":false,"role":"caller"},"holders":[],"netns":1,"family":"ipv4","protocol":"tcp","local":"127.0.0.1:80","remote":null,"socket":{"inode":5},"accept_queue":null,"request_queue":null,"syncookie":false,"port_range":null,"census":null,"queue":null,"hook":"fexit __inet_bind","unheard_of":[1]}"#;

const LOST: &str = r#"{"v":1, "type":"lost","time":"2026-11-21T03:00:02.000000Z","count":3}"#;

const SHOWN: &str = "\
03:00:01.250  a\\x1b[31mpi[7]          bind failed     port in use           127.0.0.1:80
-- 3 failures were counted but not described: too many at once
";

/// A file, gone with this.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(name: &str, content: &[u8]) -> Result<Self> {
        let name = format!("tracer-live-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content)?;
        Ok(Self(path))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn frame(line: &str) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    writeln!(encoder, "{line}")?;
    Ok(encoder.finish()?)
}

fn capture() -> Result<Vec<u8>> {
    Ok([frame(STARTUP)?, frame(EVENT)?, frame(LOST)?].concat())
}

pub(crate) fn replay(tracer: &Path, file: &File, arguments: &[&str]) -> Result<Output> {
    let mut command = tracer::verb(tracer, "replay");
    command.env("TZ", "UTC").arg(&file.0).args(arguments);
    Ok(command.output()?)
}

fn same(what: &str, found: &[u8], expected: &str) -> Result<()> {
    let found = String::from_utf8_lossy(found);
    ensure!(found == expected, "{what}: {found}\ninstead of {expected}");
    Ok(())
}

/// Byte for byte, and as watch shows it.
pub(crate) fn all(tracer: &Path) -> Result<()> {
    let file = File::new("all", &capture()?)?;
    let json = replay(tracer, &file, &["--format", "json"])?;
    ensure!(json.status.success(), "{json:?}");
    same(
        "json",
        &json.stdout,
        &format!("{STARTUP}\n{EVENT}\n{LOST}\n"),
    )?;
    same("stderr", &json.stderr, "")?;
    let text = replay(tracer, &file, &[])?;
    same("text", &text.stdout, SHOWN)?;
    let startup = "tracer on 6.1.0: tracepoints and cgroup_skb for everything\ntracer: closers are not seen\n";
    same("startup", &text.stderr, startup)?;
    let later = replay(tracer, &file, &["--format", "json", "--from", "03:00:02"])?;
    same("later", &later.stdout, &format!("{STARTUP}\n{LOST}\n"))?;
    let begin = Instant::now();
    let slow = replay(tracer, &file, &["--speed", "3"])?;
    same("slow", &slow.stdout, SHOWN)?;
    // 750 ms by a third.
    ensure!(begin.elapsed() >= Duration::from_millis(250), "no pause");
    Ok(())
}

/// What watch showed while it kept it.
pub(crate) fn like_watch(tracer: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let file = File(directory.path.join("kept"));
    let desert = Desert::new()?;
    let role = desert.role("shown-twice")?;
    let mut child = tracer::verb(tracer, "watch")
        .env("TZ", "UTC")
        .args(["--count", "3", "-w"])
        .arg(&file.0)
        .args(["--pid", &role.pid.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + limits::attach();
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("no failure was told");
        }
        fail_once(&role)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let shown = String::from_utf8(child.wait_with_output()?.stdout)?;
    ensure!(
        shown.contains("census 1: ") && shown.contains("-- totals of "),
        "{shown}"
    );
    same("text", &replay(tracer, &file, &[])?.stdout, &shown)
}

/// What is damaged is left out and told in one line.
pub(crate) fn damaged(tracer: &Path) -> Result<()> {
    let mut bytes = capture()?;
    bytes.truncate(bytes.len() - 1);
    if let Some(byte) = bytes.get_mut(frame(STARTUP)?.len() + 30) {
        *byte ^= 0x10;
    }
    let file = File::new("damaged", &bytes)?;
    let output = replay(tracer, &file, &["--format", "json"])?;
    ensure!(output.status.success(), "{output:?}");
    same("json", &output.stdout, &format!("{STARTUP}\n"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        told.lines().count() == 1
            && told.contains("torn bytes")
            && told.contains("damaged frames: 1"),
        "{told}"
    );
    let text = File::new("text", b"Nov 21 03:00:00 host kernel: hello\n")?;
    let output = replay(tracer, &text, &[])?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && told.lines().count() == 1 && told.contains("no capture"),
        "{output:?}"
    );
    Ok(())
}

/// Nobody reads: no failure.
pub(crate) fn stdout_closed(tracer: &Path) -> Result<()> {
    let file = File::new("unread", &capture()?)?;
    for format in ["text", "json"] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = tracer::verb(tracer, "replay");
        command.arg(&file.0).args(["--format", format]);
        let output = command.stdout(writer).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && !told.contains("pipe"),
            "{format}: {}: {told}",
            output.status
        );
    }
    Ok(())
}

//! Captures: what `tracer record` and `tracer watch -w` keep, through whatever happens.

mod killed;
mod reported;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::cli::{self, Desert, NOWHERE, fail_once};
use crate::role::Role;
use crate::{guest, limits, say, sys, tracer};
pub(crate) use killed::killed;
pub(crate) use reported::{reported, reported_in_turn};

/// A directory of its own, removed afterwards.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    is_mounted: bool,
}

impl Directory {
    pub(crate) fn new() -> Result<Self> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let name = format!("tracer-live-{}-{nanos}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            path,
            is_mounted: false,
        })
    }

    /// A file system of its own in memory, which nobody else keeps busy.
    pub(crate) fn in_memory(size: &str) -> Result<Self> {
        let mut directory = Self::new()?;
        let path = directory.path.to_str().context("not UTF-8")?;
        guest::mount_with("none", path, "tmpfs", 0, &format!("size={size}"))?;
        directory.is_mounted = true;
        Ok(directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = guest::unmount(&self.path)
        {
            say::remark(&format!("{}: {error}", self.path.display()));
            return;
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// What is in a capture.
struct Read {
    records: Vec<Value>,
    /// Bytes behind the last whole frame.
    torn: usize,
}

/// Every whole frame must decode, and hold whole lines of JSON.
fn read(path: &Path) -> Result<Read> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while let Ok(length) = zstd::zstd_safe::find_frame_compressed_size(rest) {
        let (frame, behind) = rest.split_at(length);
        let lines = zstd::stream::decode_all(frame)
            .with_context(|| format!("the frame at {}", bytes.len() - rest.len()))?;
        ensure!(lines.ends_with(b"\n"), "a frame ends within a line");
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            records.push(serde_json::from_slice(line).context("a line is no JSON")?);
        }
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    Ok(Read {
        records,
        torn: rest.len(),
    })
}

/// One that was ended in order.
fn read_whole(path: &Path) -> Result<Vec<Value>> {
    let read = read(path)?;
    ensure!(read.torn == 0, "{} bytes are no frame", read.torn);
    let first = read.records.first().context("it is empty")?;
    ensure!(first["type"] == "startup", "it begins with {first}");
    Ok(read.records)
}

/// A running `tracer record`.
struct Recorder {
    child: Child,
    file: PathBuf,
}

impl Recorder {
    /// Starts it and waits until the capture `first` has begun: then it is attached.
    fn start(path: &Path, file: &Path, first: &Path, arguments: &[&str]) -> Result<Self> {
        let recorder = Self::spawn(path, file, first, arguments)?;
        recorder.await_begin()?;
        Ok(recorder)
    }

    fn spawn(path: &Path, file: &Path, first: &Path, arguments: &[&str]) -> Result<Self> {
        let child = tracer::verb(path, "record")
            .arg("-w")
            .arg(file)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run tracer")?;
        Ok(Self {
            child,
            file: first.to_owned(),
        })
    }

    /// Before that the file is empty.
    fn has_begun(&self) -> bool {
        std::fs::metadata(&self.file).is_ok_and(|file| file.len() > 0)
    }

    fn await_begin(&self) -> Result<()> {
        let end = Instant::now() + limits::attach();
        while !self.has_begun() {
            ensure!(Instant::now() < end, "no capture was begun");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: i32) -> Result<()> {
        Ok(sys::signal(i32::try_from(self.child.id())?, signal)?)
    }

    /// SIGTERM, then its end: what it said on standard error.
    fn stop(mut self) -> Result<String> {
        self.signal(libc::SIGTERM)?;
        let status = self.ended()?;
        let mut said = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut said)?;
        }
        let mut shown = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut shown)?;
        }
        ensure!(
            status.success(),
            "ended with {status}: {}",
            say::flat(&said)
        );
        ensure!(shown.is_empty(), "it wrote to standard output");
        Ok(said)
    }

    fn ended(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + limits::attach();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn of_type<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    let named = |record: &&Value| record["type"] == name;
    records.iter().filter(named).collect()
}

/// Events about a namespace.
fn events(records: &[Value], netns: u64) -> u64 {
    let ours = |record: &&&Value| record["netns"] == netns;
    of_type(records, "event").iter().filter(ours).count() as u64
}

/// The sum of a number in all records of a type.
fn sum(records: &[Value], kind: &str, field: &str) -> u64 {
    let numbers = of_type(records, kind).into_iter();
    numbers.filter_map(|record| record[field].as_u64()).sum()
}

/// Fails `count` times, slowly enough for a tracer built without optimisation.
fn fail_often(role: &Role, count: u64) -> Result<u64> {
    const AT_ONCE: u64 = 100;
    let mut failed = 0;
    while failed < count {
        let told: u64 = role
            .ask(&format!("repeat tcp4 {AT_ONCE} {NOWHERE}"))?
            .parse()?;
        ensure!(told == AT_ONCE, "only {told} connects failed");
        failed += told;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(failed)
}

/// Captures are the same on every kernel: where everything is emulated, floods only
/// take time.
fn needs_speed() -> Result<()> {
    ensure!(
        !limits::in_guest(),
        Skip("no floods in an emulated machine".into())
    );
    Ok(())
}

/// Record, look, read back.
pub(crate) fn record(path: &Path) -> Result<()> {
    let (desert, directory) = (Desert::new()?, Directory::new()?);
    let (server, role) = (desert.role("has-listener")?, desert.role("recorded")?);
    server.ok("listener tcp4 127.0.0.1:8080 16")?;
    let file = directory.file("x.zst");
    let recorder = Recorder::start(path, &file, &file, &[])?;
    fail_once(&role)?;
    limits::until("an event in the capture", || {
        Ok(events(&read(&file)?.records, desert.space.inum) == 1)
    })?;
    let said = recorder.stop()?;
    ensure!(
        said.contains("records, "),
        "no summary: {}",
        say::flat(&said)
    );
    let mode = std::fs::metadata(&file)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "its mode is {mode:o}");
    let records = read_whole(&file)?;
    let startup = &records[0];
    let listens = |listener: &Value| {
        listener["netns"] == desert.space.inum
            && listener["local"] == "127.0.0.1:8080"
            && listener["holders"][0]["pid"] == server.pid
            && listener["holders"][0]["comm"] == "has-listener"
    };
    ensure!(
        startup["listeners"]
            .as_array()
            .is_some_and(|all| all.iter().any(listens)),
        "the listener is missing: {startup}"
    );
    ensure!(startup["sysctls"]["somaxconn"].is_number(), "{startup}");
    let clock = &startup["clock"];
    let clocks = ["realtime", "boottime", "monotonic"].map(|name| clock[name].as_i64());
    ensure!(
        clocks.iter().all(|clock| clock.is_some_and(|ns| ns > 0)),
        "{clock}"
    );
    ensure!(startup["file"]["number"] == 0, "{startup}");
    ensure!(
        of_type(&records, "census").len() == 1,
        "no census: {records:?}"
    );
    tracer::final_totals(&records)?;
    let end = records.last().context("no record")?;
    ensure!(
        end["type"] == "end" && end["reason"] == "interrupted",
        "{end}"
    );
    Ok(())
}

/// The same records on standard output and in the capture.
pub(crate) fn watch(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.file("x.zst");
    let mut command = tracer::command(path);
    command.args([
        "--format",
        "json",
        "--interval",
        "100ms",
        "--duration",
        "1s",
        "-w",
    ]);
    let output = cli::output(command.arg(&file))?;
    ensure!(output.status.success(), "ended with {}", output.status);
    let mut shown = Vec::new();
    for line in output.stdout.split_inclusive(|byte| *byte == b'\n') {
        shown.push(serde_json::from_slice::<Value>(line)?);
    }
    let mut kept = read_whole(&file)?;
    if let Some(startup) = kept[0].as_object_mut() {
        startup.remove("file");
    }
    ensure!(
        kept.len() > 5 && kept == shown,
        "{kept:?}\nis not\n{shown:?}"
    );
    Ok(())
}

/// Standard output takes the frames, and only those.
pub(crate) fn stdout(path: &Path) -> Result<()> {
    let mut command = tracer::verb(path, "record");
    let output = cli::output(command.args(["-w", "-", "--duration", "300ms"]))?;
    ensure!(output.status.success(), "ended with {}", output.status);
    let directory = Directory::new()?;
    let file = directory.file("x.zst");
    std::fs::write(&file, &output.stdout)?;
    let records = read_whole(&file)?;
    ensure!(of_type(&records, "end").len() == 1, "no end: {records:?}");
    Ok(())
}

/// What exists stays as it is; one line says why.
pub(crate) fn refuses(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let (file, link) = (directory.file("x"), directory.file("link"));
    std::fs::write(&file, "mine")?;
    std::os::unix::fs::symlink(&file, &link)?;
    std::fs::write(directory.file("set7"), "mine")?;
    let command = |target: PathBuf, more: &[&str]| {
        let mut command = tracer::verb(path, "record");
        command
            .arg("-w")
            .arg(target)
            .args(more)
            .args(["--duration", "1s"]);
        command
    };
    let refused: [(Command, &str); 6] = [
        (command(file.clone(), &[]), "exists already"),
        (command(link.clone(), &[]), "symbolic link"),
        (command(link.clone(), &["--overwrite"]), "symbolic link"),
        (
            command(directory.file("set"), &["-C", "1"]),
            "set7 exists already",
        ),
        (command(directory.file("no/such"), &[]), "No such file"),
        (
            command(directory.path.clone(), &["--overwrite"]),
            "directory",
        ),
    ];
    for (mut command, why) in refused {
        let said = cli::refuses(&mut command, 1, true).with_context(|| format!("{command:?}"))?;
        ensure!(said.contains(why), "it said: {said}");
    }
    ensure!(std::fs::read(&file)? == b"mine", "the file was touched");
    ensure!(link.is_symlink(), "the link was replaced");
    let output = cli::output(&mut command(file.clone(), &["--overwrite"]))?;
    ensure!(output.status.success(), "--overwrite: {}", output.status);
    read_whole(&file).map(|_| ())
}

/// Rotated files hold every event once; a ring keeps the newest.
pub(crate) fn rotates(path: &Path) -> Result<()> {
    needs_speed()?;
    const SIZE: u64 = 12 * 1024;
    let (desert, directory) = (Desert::new()?, Directory::new()?);
    let role = desert.role("rotated")?;
    let (all, ring) = (directory.file("all"), directory.file("ring"));
    let keeps_all = Recorder::start(path, &all, &all, &["-C", "12k"])?;
    let first = directory.file("ring0");
    let keeps_three = Recorder::start(path, &ring, &first, &["-C", "12k", "-W", "3"])?;
    let failed = fail_often(&role, 8000)?;
    keeps_all.stop()?;
    keeps_three.stop()?;
    let names = directory.names()?;
    let rings: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("ring"))
        .collect();
    ensure!(rings == ["ring0", "ring1", "ring2"], "the ring: {names:?}");
    let count = names.len() - rings.len();
    ensure!(count > 4, "too few files to judge: {names:?}");
    let mut together = Vec::new();
    for number in 0..count {
        let name = if number == 0 {
            "all".to_owned()
        } else {
            format!("all{number}")
        };
        let file = directory.file(&name);
        let records = read_whole(&file).with_context(|| name.clone())?;
        ensure!(
            records[0]["file"]["number"] == number,
            "{name}: {}",
            records[0]
        );
        let length = std::fs::metadata(&file)?.len();
        ensure!(length <= SIZE, "{name} has {length} bytes");
        together.extend(records);
    }
    let told = events(&together, desert.space.inum) + sum(&together, "lost", "count");
    ensure!(told == failed, "{failed} failures, {told} in {count} files");
    let mut numbers = Vec::new();
    for name in rings {
        let records = read_whole(&directory.file(name)).with_context(|| name.clone())?;
        numbers.push(records[0]["file"]["number"].as_u64().unwrap_or_default());
    }
    numbers.sort_unstable();
    let last = numbers[2];
    ensure!(
        last > 3 && numbers == [last - 2, last - 1, last],
        "{numbers:?}"
    );
    Ok(())
}

/// A full disk stops nothing: what is left out is counted.
pub(crate) fn full_disk(path: &Path) -> Result<()> {
    needs_speed()?;
    let (desert, directory) = (Desert::new()?, Directory::in_memory("1m")?);
    let role = desert.role("unwritten")?;
    let (file, ballast) = (directory.file("x.zst"), directory.file("ballast"));
    std::fs::write(&ballast, vec![1_u8; 1000 * 1024])?;
    let recorder = Recorder::start(path, &file, &file, &[])?;
    // Far more than waits in memory.
    let mut failed = fail_often(&role, 16_000)?;
    let length = std::fs::metadata(&file)?.len();
    ensure!(length < 48 * 1024, "the disk is not full: {length} bytes");
    ensure!(read(&file)?.torn == 0, "a torn frame was left");
    std::fs::remove_file(&ballast)?;
    limits::until("a gap in the capture", || {
        Ok(!of_type(&read(&file)?.records, "gap").is_empty())
    })?;
    failed += fail_often(&role, 100)?;
    let said = recorder.stop()?;
    let records = read_whole(&file)?;
    let gaps = of_type(&records, "gap");
    let reason = gaps[0]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("No space left"), "{gaps:?}");
    // Others than events may be in the gap, but hardly any.
    let told = events(&records, desert.space.inum) + sum(&records, "lost", "count");
    let left_out = sum(&records, "gap", "records");
    let more = (told + left_out).checked_sub(failed);
    ensure!(
        left_out > 0 && more.is_some_and(|more| more < 50),
        "{failed} failures, {told} told, {left_out} in gaps"
    );
    tracer::final_totals(&records)?;
    for once in ["No space left", "is written again"] {
        ensure!(
            said.matches(once).count() == 1,
            "`{once}`: {}",
            say::flat(&said)
        );
    }
    Ok(())
}

/// A directory that vanishes and comes back.
pub(crate) fn vanished(path: &Path) -> Result<()> {
    let (desert, directory) = (Desert::new()?, Directory::new()?);
    let role = desert.role("vanished")?;
    let inner = directory.file("inner");
    std::fs::create_dir(&inner)?;
    let file = inner.join("x.zst");
    let recorder = Recorder::start(path, &file, &file, &[])?;
    std::fs::remove_dir_all(&inner)?;
    fail_once(&role)?;
    std::thread::sleep(Duration::from_millis(1500));
    std::fs::create_dir(&inner)?;
    limits::until("the capture begun anew", || {
        Ok(file.exists() && events(&read(&file)?.records, desert.space.inum) == 1)
    })?;
    recorder.stop()?;
    let records = read_whole(&file)?;
    let gap = of_type(&records, "gap");
    ensure!(gap.len() == 1 && gap[0]["records"] == 1, "{gap:?}");
    Ok(())
}

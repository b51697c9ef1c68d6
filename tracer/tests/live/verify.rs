//! The verification at start: what it finds, that nobody sees it, and what follows when a
//! hook sees nothing.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::cli::{Desert, PublicCopy, fail_once, output};
use crate::netns::Namespace;
use crate::record::Directory;
use crate::tracer::{self, Tracer};
use crate::{limits, metrics, say, sys, verdict};

const CAP_SYS_ADMIN: u64 = 21;

fn lines(text: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(text)?;
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().context("a line is no JSON")
}

/// The one `verified` record among these.
fn verified(records: &[Value]) -> Result<&Value> {
    let mut found = records.iter().filter(|one| one["type"] == "verified");
    let first = found.next().context("no record of type verified")?;
    ensure!(found.next().is_none(), "more than one: {records:?}");
    Ok(first)
}

fn purposes(record: &Value) -> Result<BTreeMap<String, Value>> {
    let all = record["purposes"].as_array().context("no purposes")?;
    let name = |one: &Value| Some((one["purpose"].as_str()?.to_owned(), one.clone()));
    all.iter().map(|one| name(one).context("no name")).collect()
}

/// The child processes of `pid`.
fn children(pid: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned());
        let parent = parent.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(pid)
    })
    .collect()
}

fn netns_of(pid: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let link = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    link.parse().ok()
}

/// Waits for the namespace in which a tracer causes failures.
fn namespace_of(tracer: &Child) -> Result<u64> {
    let own = netns_of("self").context("no namespace")?;
    let end = Instant::now() + limits::attach();
    while Instant::now() < end {
        for child in children(tracer.id()) {
            if let Some(found) = netns_of(&child.to_string()).filter(|found| *found != own) {
                return Ok(found);
            }
        }
        std::thread::yield_now();
    }
    bail!("tracer makes no network namespace");
}

/// What the kernel logged about the addresses and settings that a verification uses.
fn kernel_log() -> Result<usize> {
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0_u8; 1 << 20];
    let size = libc::c_int::try_from(buffer.len())?;
    // SAFETY: the buffer is as long as the call is told.
    let got = sys::check(unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), size) })?;
    let text = String::from_utf8_lossy(&buffer[..usize::try_from(got)?]).into_owned();
    let is_about = |line: &&str| {
        [
            "127.0.0.1:700",
            "[::1]:700",
            "::1.700",
            "prefer different parity",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    Ok(text.lines().filter(is_about).count())
}

fn is_private(record: &Value, netns: u64) -> bool {
    let is_in = |rows: &Value| {
        let rows = rows.as_array().into_iter().flatten();
        rows.into_iter().any(|row| row["netns"] == netns)
    };
    record["netns"] == netns
        || is_in(&record["counts"])
        || is_in(&record["kernel"])
        || is_in(&record["listeners"])
        || record.to_string().contains("tracer-verify")
}

/// Every purpose that hooks serve is verified, and nothing but the record shows it.
pub(crate) fn unseen(path: &Path) -> Result<()> {
    let logged = kernel_log()?;
    let directory = Directory::new()?;
    let capture = directory.path.join("capture");
    let mut command = tracer::command(path);
    command
        .args(["--format", "json", "--interval", "1s", "--duration", "3s"])
        .args(["--metrics", "127.0.0.1:0", "-w"])
        .arg(&capture)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tracer = command.spawn()?;
    let netns = namespace_of(&tracer)?;
    let mut stderr = tracer.stderr.take().context("no stderr")?;
    let mut said = String::new();
    let end = Instant::now() + limits::event();
    while !said.contains("/metrics\n") {
        ensure!(Instant::now() < end, "no address: {said}");
        let mut bytes = [0; 256];
        let len = stderr.read(&mut bytes)?;
        said += &String::from_utf8_lossy(&bytes[..len]);
    }
    let address = said.split_once("http://").map(|(_, rest)| rest.to_owned());
    let address = address.and_then(|rest| Some(rest.split_once("/metrics\n")?.0.to_owned()));
    let address = address.context("no address")?;
    let bind = ["purpose=\"bind\""];
    let scraped = metrics::await_value(&address, "tracer_hook_verified", &bind, 1.0)?;
    let policy = ["purpose=\"connect_policy\""];
    metrics::expect(&scraped, "tracer_hook_verified", &policy, 0.0)?;
    ensure!(
        !scraped.contains("tracer-verify") && !scraped.contains(&format!("netns=\"{netns}\"")),
        "{scraped}"
    );
    let output = tracer.wait_with_output()?;
    ensure!(output.status.success(), "{}: {said}", output.status);
    let replay = tracer::verb(path, "replay")
        .args(["--format", "json"])
        .arg(&capture)
        .output()?;
    for (name, records) in [
        ("watch", lines(&output.stdout)?),
        ("capture", lines(&replay.stdout)?),
    ] {
        let (first, found) = (records.first().context("no record")?, verified(&records)?);
        say::line(&format!(
            "{name}: startup {}, verified {}",
            first["time"], found["time"]
        ));
        let seen = records.iter().find(|record| is_private(record, netns));
        ensure!(seen.is_none(), "{name} shows the verification: {seen:?}");
        let hooks = first["hooks"].as_array().context("no hooks")?;
        let purposes = purposes(found)?;
        for hook in hooks {
            let name = hook["purpose"].as_str().context("no purpose")?;
            let one = purposes.get(name).context(name.to_owned())?;
            let is_possible = hook["tier"] != "none" && name != "connect_policy";
            let status = if is_possible {
                "verified"
            } else {
                "not_verified"
            };
            ensure!(
                one["status"] == status
                    && one["caused"] == one["seen"]
                    && (one["caused"] != 0) == is_possible,
                "{one}"
            );
        }
    }
    ensure!(kernel_log()? == logged, "the kernel logged something");
    let left = Path::new(&format!("/proc/{netns}")).exists();
    ensure!(!left, "something is left");
    Ok(())
}

/// Runs tracer to its end; its records, which must have one of type `verified`.
fn ended(command: &mut Command, code: i32) -> Result<Vec<Value>> {
    let output = output(command)?;
    ensure!(
        output.status.code() == Some(code),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let records = lines(&output.stdout)?;
    verified(&records)?;
    Ok(records)
}

/// Nothing is verified: all of it says so, for this reason.
fn none_for(records: &[Value], reason: &str) -> Result<()> {
    for one in purposes(verified(records)?)?.values() {
        let why = one["reason"].as_str().unwrap_or_default();
        let is_served = one["tier"] != "none";
        ensure!(
            one["status"] == "not_verified" && (!is_served || why.contains(reason)),
            "{one}"
        );
    }
    Ok(())
}

/// It is not verified when that is not wanted or not permitted, and tracer works.
pub(crate) fn not_verified(path: &Path) -> Result<()> {
    let json = |command: &mut Command| {
        command.args(["--format", "json", "--duration", "500ms"]);
    };
    let mut off = tracer::command(path);
    json(&mut off);
    let records = ended(off.arg("--no-verify"), 0)?;
    none_for(&records, "--no-verify")?;
    let copy = PublicCopy::of(path)?;
    let mut nobody = tracer::command(&copy.0);
    json(&mut nobody);
    let without = || sys::be_nobody(1 << CAP_SYS_ADMIN);
    // SAFETY: the closure makes system calls only.
    unsafe { nobody.pre_exec(without) };
    let records = ended(&mut nobody, 0)?;
    none_for(&records, "network namespace")
}

/// tracer may end in the middle of it.
pub(crate) fn cut_short(path: &Path) -> Result<()> {
    let watch = |arguments: &[&str], code: i32| {
        let mut command = tracer::command(path);
        command.args(["--format", "json"]).args(arguments);
        ended(&mut command, code).with_context(|| format!("{arguments:?}"))
    };
    for duration in ["1ms", "20ms", "40ms", "100ms"] {
        watch(&["--duration", duration], 0)?;
    }
    let own = std::env::current_exe()?;
    let own = own
        .to_str()
        .context("the path of this program is no text")?;
    watch(&["--", own, "--role", "exit", "0"], 0)?;
    watch(&["--", own, "--role", "exit", "1"], 1)?;
    watch(&["--drop-all", "--duration", "500ms"], 0)?;
    for wait in [0, 10, 30] {
        let tracer = Tracer::started(path, &[])?;
        std::thread::sleep(Duration::from_millis(wait));
        let before = children(tracer.pid());
        verified(&tracer.stop()?)?;
        for child in before {
            let end = Instant::now() + limits::event();
            while Path::new(&format!("/proc/{child}/ns/net")).exists() {
                ensure!(Instant::now() < end, "process {child} is left");
                std::thread::yield_now();
            }
        }
    }
    // Its own failures are no events.
    let space = Namespace::new()?;
    let tracer = Tracer::started(path, &["--count", "1", "--netns", &space.inum.to_string()])?;
    tracer.await_record(|record| record["type"] == "verified")?;
    fail_to_bind(&space)?;
    let status = tracer.ended()?;
    ensure!(status.success(), "{status}");
    let events = tracer.events_in(space.inum);
    ensure!(events.len() == 1, "{events:?}");
    Ok(())
}

/// A tracer that runs, a recorder say, does not show what others cause to verify theirs.
pub(crate) fn beside(path: &Path) -> Result<()> {
    // Before the others make theirs: it might get the number of one of them.
    let space = Namespace::new()?;
    let recorder = Tracer::started(path, &["--no-verify"])?;
    let mut other = tracer::command(path)
        .args(["--format", "json", "--duration", "2s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let netns = namespace_of(&other)?;
    let mut text = Vec::new();
    let mut stdout = other.stdout.take().context("no stdout")?;
    stdout.read_to_end(&mut text)?;
    let status = other.wait()?;
    ensure!(status.success(), "{status}");
    let caused: u64 = purposes(verified(&lines(&text)?)?)?
        .values()
        .filter_map(|one| one["caused"].as_u64())
        .sum();
    ensure!(caused > 0, "the other tracer caused nothing");
    // Nor what doctor does; what it says is not asked here.
    tracer::verb(path, "doctor").output()?;
    fail_to_bind(&space)?;
    ensure!(
        recorder.await_events(space.inum, |events| !events.is_empty()),
        "what somebody else does is not seen"
    );
    let records = recorder.stop()?;
    let seen = records.iter().find(|record| is_private(record, netns));
    ensure!(seen.is_none(), "the recorder shows {seen:?}");
    Ok(())
}

/// Whoever takes the name of the process that verifies hides nobody else.
pub(crate) fn imposter(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let tracer = Tracer::started(path, &["--no-verify"])?;
    let (imposter, honest) = (desert.role("tracer-verify")?, desert.role("honest")?);
    fail_once(&honest)?;
    fail_once(&imposter)?;
    fail_once(&honest)?;
    let netns = desert.space.inum;
    ensure!(
        tracer.await_events(netns, |events| events.len() >= 2),
        "the others are hidden, too"
    );
    let records = tracer.stop()?;
    let totals = tracer::final_totals(&records)?;
    let by = totals["by"].as_array().into_iter().flatten();
    let by: Vec<_> = by
        .filter(|row| row["netns"] == netns)
        .map(|row| (row["process"]["comm"].as_str(), row["counted"].as_u64()))
        .collect();
    ensure!(by == [(Some("honest"), Some(2))], "{totals}");
    verdict::add_up(&tracer)?;
    Ok(())
}

/// A bind to an address that the namespace does not have.
fn fail_to_bind(space: &Namespace) -> Result<()> {
    space.run(|| match TcpListener::bind("192.0.2.1:80") {
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        other => bail!("it was to fail with EADDRNOTAVAIL: {other:?}"),
    })
}

/// A hook that sees nothing is found out, and the next one takes its place.
pub(crate) fn broken(path: &Path) -> Result<()> {
    for purpose in [
        "bind", "connect", "syn_drop", "ack_drop", "closer", "listener",
    ] {
        broken_hook(path, purpose).with_context(|| purpose.to_owned())?;
    }
    // Nothing can be loaded any more, which is said.
    let tracer = start_broken(path, &["--break-hook", "bind", "--drop-all"])?;
    let record = tracer.await_record(|record| record["type"] == "verified")?;
    let one = purposes(&record)?.remove("bind").context("no bind")?;
    let reason = one["reason"].as_str().unwrap_or_default();
    ensure!(
        one["status"] == "failed" && reason.contains("--drop-all"),
        "{one}"
    );
    tracer.stop().map(|_| ())
}

fn start_broken(path: &Path, arguments: &[&str]) -> Result<Tracer> {
    match Tracer::start(path, arguments)? {
        tracer::Start::Ready(tracer) => Ok(*tracer),
        tracer::Start::Refused(Some(2), _) => {
            Err(Skip("tracer was built without the feature fault".into()).into())
        }
        tracer::Start::Refused(code, why) => bail!("tracer ended with {code:?}: {why}"),
    }
}

fn broken_hook(path: &Path, purpose: &str) -> Result<()> {
    let tracer = start_broken(path, &["--break-hook", purpose])?;
    let (before, ..) = tracer.hook(purpose);
    let started = Instant::now();
    let record = tracer.await_record(|record| record["type"] == "verified")?;
    let took = started.elapsed();
    let one = purposes(&record)?.remove(purpose).context("no purpose")?;
    say::line(&format!("{purpose}: {before}, after {took:?}: {one}"));
    ensure!(took < limits::event(), "it took {took:?}");
    let reason = one["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("0 of"), "{one}");
    match one["tier"].as_str() {
        Some("none") => ensure!(one["status"] == "failed", "{one}"),
        now => ensure!(
            one["status"] == "verified" && now != Some(before.as_str()),
            "{one}"
        ),
    }
    // The hook that is left, if there is one, sees failures, each once.
    if purpose == "bind" {
        let space = Namespace::new()?;
        fail_to_bind(&space)?;
        let is_served = one["tier"] != "none";
        let came = match is_served {
            true => tracer.await_events(space.inum, |events| !events.is_empty()),
            false => false,
        };
        let records = tracer.stop()?;
        let events = tracer.events_in(space.inum);
        ensure!(
            came == is_served && events.len() == usize::from(is_served),
            "{events:?} {records:?}"
        );
        return Ok(());
    }
    tracer.stop().map(|_| ())
}

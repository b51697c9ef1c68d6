//! Can tracer be trusted? `selftest`, `doctor`, and what is left of its privileges.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::cli::{PublicCopy, hide_btf, output};
use crate::expect::Expected;
use crate::netns::Namespace;
use crate::options::TIERS;
use crate::record::Directory;
use crate::role::Role;
use crate::tracer::{self, Start, Tracer};
use crate::{case, limits, sys};

/// What the kernel of this host is set to: selftest must not touch it.
const SYSCTLS: &[&str] = &[
    "ip_local_port_range",
    "tcp_syncookies",
    "tcp_max_syn_backlog",
    "tcp_abort_on_overflow",
    "tcp_tw_reuse",
];

fn sysctls() -> Result<Vec<String>> {
    let read = |name: &&str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let values: std::io::Result<_> = SYSCTLS.iter().map(read).collect();
    Ok(values?)
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().context("a line is no JSON")
}

/// In every tier that this kernel allows all must be right.
pub(crate) fn selftest(path: &Path) -> Result<()> {
    let before = sysctls()?;
    for tier in TIERS {
        let mut command = tracer::verb(path, "selftest");
        let output = output(command.args(["--format", "json", "--hooks", tier]))?;
        if output.status.success() {
            table(&lines(&output)?).context(tier)?;
            continue;
        }
        // Only a tier that watch is refused, too.
        let refused = match Tracer::start(path, &["--hooks", tier])? {
            Start::Refused(code, _) => code,
            Start::Ready(tracer) => tracer.stop().map(|_| None)?,
        };
        ensure!(
            refused.is_some() && output.status.code() == refused,
            "{tier}: {}; {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    ensure!(sysctls()? == before, "a setting of the host has changed");
    Ok(())
}

/// Every row is right, or has a reason not to be shown.
fn table(records: &[Value]) -> Result<()> {
    let (end, rows) = records.split_last().context("no record at all")?;
    ensure!(
        end["type"] == "selftest_end" && end["result"] == "ok",
        "{end}"
    );
    let has_ipv6 = std::fs::exists("/proc/net/if_inet6")?;
    let of = |result: &str| rows.iter().filter(|row| row["result"] == result).count();
    ensure!(
        end["right"] == of("ok") && end["not_shown"] == of("not_shown") && of("wrong") == 0,
        "{end} of {rows:?}"
    );
    for row in rows {
        let name = format!("{} {} {}", row["kind"], row["cause"], row["about"]);
        if row["result"] == "not_shown" {
            ensure!(row["reasons"][0].is_string(), "{name}: no reason");
            // Hooks are refused; but nothing here is read-only.
            let was_not_tried = row["tier"].is_null();
            let is_for_ipv6 = row["reasons"][0] == "this kernel has no IPv6" && !has_ipv6;
            ensure!(
                was_not_tried || is_for_ipv6 || row["tier"] == "none",
                "{row}"
            );
            continue;
        }
        ensure!(row["process"] == row["named"], "{row}");
        ensure!(row["provoked"].as_u64() > Some(0), "{row}");
        let is_same = row["provoked"] == row["counted"];
        ensure!(is_same || row["exactness"] == "near", "{row}");
    }
    ensure!(rows.len() >= 16, "{} rows", rows.len());
    Ok(())
}

/// Whoever is interrupted leaves nobody behind.
pub(crate) fn selftest_interrupted(path: &Path) -> Result<()> {
    for wait in [300, 1500] {
        let mut child = tracer::verb(path, "selftest")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(wait));
        let family = descendants(child.id())?;
        sys::signal(i32::try_from(child.id())?, libc::SIGTERM)?;
        child.wait()?;
        limits::until("the end of all that selftest started", || {
            // Orphans become ours.
            Ok(family.iter().all(|pid| is_over(*pid)))
        })?;
    }
    Ok(())
}

fn is_over(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// The processes that this one started, and those that they started.
fn descendants(pid: u32) -> Result<Vec<i32>> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        // "42 (name) S 1 ..": the name may hold anything.
        let child = stat.split(' ').next().and_then(|pid| pid.parse().ok());
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        if let (Some(child), Some(parent)) = (child, parent.and_then(|pid| pid.parse().ok())) {
            parents.push((child, parent));
        }
    }
    let mut found: Vec<i32> = vec![i32::try_from(pid)?];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| child),
        );
        next += 1;
    }
    found.remove(0);
    Ok(found)
}

/// Without privileges it says so before anything is done.
pub(crate) fn selftest_not_root(path: &Path) -> Result<()> {
    let copy = PublicCopy::of(path)?;
    let mut command = tracer::verb(&copy.0, "selftest");
    crate::cli::refuses(command.uid(65534).gid(65534), 3, true).map(|_| ())
}

pub(crate) fn diagnosis(output: &Output) -> Result<Value> {
    let [object] = &lines(output)?[..] else {
        anyhow::bail!("one object was to come: {output:?}");
    };
    let code = output.status.code().map(i64::from);
    ensure!(object["exit_code"].as_i64() == code, "{object}: {code:?}");
    Ok(object.clone())
}

pub(crate) fn level(object: &Value, name: &str) -> Result<(String, String)> {
    let checks = object["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.with_context(|| format!("no check {name}"))?;
    let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
    Ok((text("level"), text("found")))
}

/// Says of every purpose what `watch` says, and what is missing without root and
/// without BTF.
pub(crate) fn doctor(path: &Path) -> Result<()> {
    let json = ["--format", "json"];
    let tracer = Tracer::started(path, &[])?;
    let object = diagnosis(&output(tracer::verb(path, "doctor").args(json))?)?;
    let hooks = tracer.startup["hooks"].as_array().context("no hooks")?;
    let mut is_lossy = false;
    for hook in hooks {
        let name = hook["purpose"].as_str().unwrap_or_default();
        let (level, found) = level(&object, name)?;
        let tier = hook["tier"].as_str().unwrap_or_default();
        let exactness = hook["exactness"].as_str().unwrap_or_default();
        // Near, and nothing better was refused: no kernel offers more.
        let is_best = exactness == "near" && hook["reason"].is_null();
        let is_good = exactness == "exact" || is_best;
        ensure!((level == "ok") == is_good, "{name}: {level}, but {hook}");
        let wanted = match tier {
            "none" => "blind".to_owned(),
            _ => format!("{tier}, {exactness}: "),
        };
        ensure!(found.starts_with(&wanted), "{name}: {found}, but {hook}");
        is_lossy |= !is_good;
    }
    tracer.stop()?;
    ensure!(object["stopped"].is_null(), "{object}");
    ensure!(!is_lossy || object["exit_code"] == 1, "{object}");
    let memory = level(&object, "kernel_memory")?.1;
    ensure!(
        memory.starts_with("maps ") && !memory.starts_with("maps 0.0"),
        "{memory}"
    );
    // People see the same.
    let text = output(&mut tracer::verb(path, "doctor"))?;
    let verdict = object["text"].as_str().context("no text")?;
    let told = String::from_utf8_lossy(&text.stdout).into_owned();
    ensure!(told.trim_end().ends_with(verdict), "{told}");
    let copy = PublicCopy::of(path)?;
    let mut command = tracer::verb(&copy.0, "doctor");
    let object = diagnosis(&output(command.args(json).uid(65534).gid(65534))?)?;
    ensure!(object["exit_code"] == 3, "{object}");
    ensure!(level(&object, "CAP_BPF")?.0 == "stops", "{object}");
    ensure!(level(&object, "btf")?.0 == "ok", "{object}");
    let mut command = tracer::verb(path, "doctor");
    hide_btf(&mut command);
    let object = diagnosis(&output(command.args(json))?)?;
    ensure!(object["exit_code"] == 4, "{object}");
    ensure!(level(&object, "btf")?.0 == "stops", "{object}");
    Ok(())
}

/// CAP_DAC_READ_SEARCH, CAP_KILL, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_BPF
/// (uapi/linux/capability.h).
const READ: u64 = 1 << 2;
const SIGNAL: u64 = 1 << 5;
const NET: u64 = 1 << 12;
pub(crate) const PTRACE: u64 = 1 << 19;
pub(crate) const ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;

/// A field of a status file in /proc, a mask.
fn mask(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let text = line.with_context(|| format!("no {name}"))?;
    Ok(u64::from_str_radix(text.trim(), 16)?)
}

/// Every thread has these capabilities at most, for good.
fn is_reduced(pid: u32, at_most: u64) -> Result<()> {
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        threads += 1;
        for (name, allowed) in [
            ("CapInh:", 0),
            ("CapPrm:", at_most),
            ("CapEff:", at_most),
            ("CapBnd:", 0),
            ("CapAmb:", 0),
        ] {
            let held = mask(&status, name)?;
            ensure!(
                held & !allowed == 0,
                "{name} {held:x}, not {allowed:x}: {status}"
            );
        }
        ensure!(mask(&status, "NoNewPrivs:")? == 1, "{status}");
    }
    ensure!(threads >= 2, "the census has a thread, too");
    Ok(())
}

/// What is kept, by every thread; and that a failure is attributed with it.
pub(crate) fn privileges(path: &Path) -> Result<()> {
    for (arguments, at_most) in [
        (&[][..], READ | NET | PTRACE | ADMIN),
        (&["--drop-all"], BPF),
    ] {
        let tracer = Tracer::started(path, arguments)?;
        is_reduced(tracer.pid(), at_most).with_context(|| format!("{arguments:?}"))?;
        let space = Namespace::new()?;
        space.four_ports()?;
        let role = Role::start(&space, "poor-client")?;
        role.ok("listener tcp4 127.0.0.1:8080 64")?;
        let connects = role.connects("tcp4", 5, "127.0.0.1:8080")?;
        ensure!(connects.failed == [libc::EADDRNOTAVAIL], "{connects:?}");
        let expected = Expected::connect(space.inum, "ports_exhausted").by(&role);
        case::await_in(&tracer, &expected)?;
        let records = tracer.stop()?;
        let census = records
            .iter()
            .find(|record| record["type"] == "census" && record["netns"] == space.inum);
        let census = census.context("no census")?;
        // That is what --drop-all costs, and it says so.
        let says_so = tracer.startup["degradations"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one.to_string().contains("--drop-all")));
        ensure!(census["unavailable"].is_string() == says_so, "{census}");
        ensure!(says_so != arguments.is_empty(), "{}", tracer.startup);
    }
    Ok(())
}

/// With --drop-all the kernel's counters of a namespace that was there before are read on.
pub(crate) fn counters_without_privileges(path: &Path) -> Result<()> {
    let space = Namespace::new()?;
    let server = Role::start(&space, "slow-server")?;
    let client = Role::start(&space, "client")?;
    server.ok("listener tcp4 127.0.0.1:8080 1")?;
    let tracer = Tracer::started(path, &["--drop-all"])?;
    if tracer.hook("syn_drop").0 == "none" {
        return Err(Skip::because("nothing sees drops"));
    }
    client.connects("tcp4", 5, "127.0.0.1:8080")?;
    let is_told = tracer.await_events(space.inum, |events| events.len() >= 3);
    ensure!(is_told, "{:?}", tracer.events_in(space.inum));
    let records = tracer.stop()?;
    let totals = tracer::final_totals(&records)?;
    let rows = totals["kernel"].as_array().into_iter().flatten();
    let row = rows.into_iter().find(|row| row["netns"] == space.inum);
    let row = row.context("no row of the namespace")?;
    ensure!(
        row["unavailable"].is_null() && row["listen_drops"]["difference"] == 0,
        "{row}"
    );
    Ok(())
}

/// A command has the privileges that it would have without tracer, while tracer has
/// fewer; `role` is what it runs: this program, telling its own.
pub(crate) fn command_keeps_privileges(path: &Path) -> Result<()> {
    let own = std::fs::read_to_string("/proc/self/status")?;
    let mut command = tracer::command(path);
    command.arg("--").arg(std::env::current_exe()?);
    let output = output(command.args(["--role", "status"]))?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    for name in [
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
    ] {
        ensure!(mask(&told, name)? == mask(&own, name)?, "{name}: {told}");
    }
    // While it runs, the thread that started it is soon gone.
    let mut child = tracer::command(path)
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(["--role", "wait"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    // Attaching comes first, which takes longer than most things.
    let end = Instant::now() + limits::attach();
    while descendants(child.id())?.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let started = limits::until("the command", || Ok(!descendants(child.id())?.is_empty()));
    let is_reduced = || is_reduced(child.id(), READ | NET | PTRACE | ADMIN | SIGNAL);
    let reduced = started.and_then(|()| {
        // Whatever goes wrong at the end of the wait is told by the last look.
        let _ = limits::until("fewer privileges", || Ok(is_reduced().is_ok()));
        is_reduced()
    });
    sys::signal(i32::try_from(child.id())?, libc::SIGTERM)?;
    let status = child.wait()?;
    reduced?;
    ensure!(status.code() == Some(128 + libc::SIGTERM), "{status}");
    Ok(())
}

/// A capture in a directory that only its owner may write: root may, also for the next
/// file, and tracer is started by root.
pub(crate) fn capture_elsewhere(path: &Path) -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.path.join("capture.zst");
    chown(&directory.path, Some(65534), Some(65534))?;
    std::fs::set_permissions(&directory.path, PermissionsExt::from_mode(0o700))?;
    let mut command = tracer::verb(path, "record");
    command.arg("-w").arg(&file);
    let begun = Instant::now();
    let output = output(command.args(["-G", "200ms", "--interval", "100ms", "--duration", "3s"]))?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(begun.elapsed() >= Duration::from_secs(3), "{output:?}");
    for name in ["capture.zst", "capture.zst1"] {
        let file = directory.path.join(name);
        ensure!(file.exists(), "no {name}: {output:?}");
    }
    Ok(())
}

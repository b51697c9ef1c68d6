//! The filter that a traced command is: its processes, and nobody else's.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cli::{Desert, fail_once};
use crate::tracer::{self, Tracer};

/// An address that no host has (TEST-NET-1).
const NOT_OURS: &str = "192.0.2.1:0";

/// How often the family fails: twice in a child that ends at once, once in an orphan.
const FAILURES: u64 = 3;

fn own(role: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--role").args(role).stdin(Stdio::null());
    Ok(command)
}

/// The command that is traced, or a process of it.
pub(crate) fn play(role: &[String]) -> Result<()> {
    let words: Vec<&str> = role.iter().map(String::as_str).collect();
    match &words[..] {
        ["fail", times, milliseconds] => {
            std::thread::sleep(Duration::from_millis(milliseconds.parse()?));
            for _ in 0..times.parse()? {
                let error = TcpListener::bind(NOT_OURS).err();
                let errno = error.and_then(|error| error.raw_os_error());
                ensure!(errno == Some(libc::EADDRNOTAVAIL), "{errno:?}");
            }
            Ok(())
        }
        // Its child becomes an orphan, and a leader of its own.
        ["leave"] => {
            let mut orphan = own(&["fail", "1", "300"])?;
            let leave = || {
                // SAFETY: no memory is passed.
                unsafe { libc::setsid() };
                Ok(())
            };
            // SAFETY: the closure makes one system call.
            unsafe { std::os::unix::process::CommandExt::pre_exec(&mut orphan, leave) };
            orphan.spawn()?;
            Ok(())
        }
        ["family"] => {
            for child in [&["fail", "2", "0"][..], &["leave"]] {
                let status = own(child)?.status()?;
                ensure!(status.success(), "{child:?}: {status}");
            }
            std::thread::sleep(Duration::from_millis(2500));
            Ok(())
        }
        _ => bail!("no such role: {role:?}"),
    }
}

/// What a tracer of that command tells, while others fail in its network namespace and in
/// another one. The pids of those, and its events.
fn traced(path: &Path, options: &[&str]) -> Result<(Vec<u32>, Vec<Value>, Value)> {
    let desert = Desert::new()?;
    let role = desert.role("bystander")?;
    let own_path = std::env::current_exe()?;
    let own_path = own_path.to_str().context("our own path is not UTF-8")?;
    let command = ["--", own_path, "--role", "family"];
    let tracer = Tracer::started(path, &[options, &command].concat())?;
    let mut others = vec![u32::try_from(role.pid)?];
    for _ in 0..3 {
        fail_once(&role)?;
        let mut other = own(&["fail", "1", "0"])?.spawn()?;
        others.push(other.id());
        ensure!(other.wait()?.success(), "the bystander did not fail");
        std::thread::sleep(Duration::from_millis(200));
    }
    // A zombie that tracer adopted is buried while the command goes on.
    let status = tracer.ended()?;
    ensure!(status.code() == Some(0), "{status}: {}", tracer.stderr());
    let here = netns()?;
    let mut events = tracer.events_in(here);
    events.extend(tracer.events_in(desert.space.inum));
    let records = tracer.records();
    Ok((others, events, tracer::final_totals(&records)?.clone()))
}

fn netns() -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self/ns/net")?.ino())
}

/// Children that end at once and orphans belong to a command; bystanders do not.
pub(crate) fn tree(path: &Path) -> Result<()> {
    let is_of = |others: &[u32], event: &Value| {
        let pid = event["process"]["pid"].as_u64();
        others.iter().any(|other| Some(u64::from(*other)) == pid)
    };
    let (others, events, totals) = traced(path, &[])?;
    ensure!(
        events.len() as u64 == FAILURES && !events.iter().any(|event| is_of(&others, event)),
        "{events:?}"
    );
    ensure!(totals["described"] == FAILURES, "{totals}");
    // The other namespace is in no row.
    let here = netns()?;
    let rows = totals["counts"].as_array().into_iter().flatten();
    let elsewhere = rows.filter(|row| row["netns"] != here).count();
    ensure!(elsewhere == 0, "{totals}");
    let (others, events, _) = traced(path, &["--all"])?;
    let of_others = events.iter().filter(|event| is_of(&others, event)).count();
    ensure!(of_others == 6, "{of_others}: {events:?}");
    ensure!(events.len() as u64 >= FAILURES + 6, "{events:?}");
    Ok(())
}

//! The process that causes failures in a network namespace of its own, on command.
//!
//! It is this program once more. It gets orders and gives reports as lines of JSON on
//! its standard input and output, has nothing else open, and ends when its input ends.

use std::{
    fs,
    io::{self, BufRead, Write},
    os::{fd::RawFd, unix::fs::MetadataExt},
    process::Stdio,
};

use anyhow::{Context, Result};
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::{self, UnshareFlags, unshare_unsafe},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::scenes;
use crate::host::{plan::Purpose, private_net};

/// The hidden verb under which it runs.
pub(crate) const VERB: &str = "verify-actor";

/// Its name, by which events of its calls are recognised.
pub(super) const NAME: &std::ffi::CStr = c"tracer-verify";

/// What it reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// It is in a namespace of its own, with this inode number.
    Ready(u32),
    /// It cannot be.
    NoNamespace(String),
    /// Something failed, or was done, so many times.
    Caused(Caused),
    /// Something cannot be caused here, by IPv6 or not.
    Unfit(Purpose, bool, String),
    /// The order has been carried out.
    Done,
}

/// What the hooks of a purpose must have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caused {
    pub(super) purpose: Purpose,
    pub(super) v6: bool,
    pub(super) times: u64,
}

/// Runs the process.
///
/// # Errors
/// Nobody reads its reports.
pub(crate) fn serve() -> Result<()> {
    close_inherited();
    // Its input ends when tracer does; this is for tracer being killed in the middle of
    // a scene.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = std::env::set_current_dir("/");
    let _ = thread::set_name(NAME);
    let mut report = |report: Report| -> Result<()> {
        let mut line = serde_json::to_vec(&report)?;
        line.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        Ok(out.flush()?)
    };
    match enter() {
        Ok(netns) => report(Report::Ready(netns))?,
        Err(why) => return report(Report::NoNamespace(format!("{why:#}"))),
    }
    for line in io::stdin().lock().lines() {
        let order: Vec<Purpose> = serde_json::from_str(&line?).context("no order")?;
        scenes::play(&order, &mut report)?;
        report(Report::Done)?;
    }
    Ok(())
}

/// Closes what tracer's parent left open for tracer: it is not to be kept open here.
fn close_inherited() {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<RawFd> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // SAFETY: this process has opened nothing yet that outlives the listing above,
        // so nobody owns these descriptors.
        unsafe { libc::close(fd) };
    }
}

/// Moves into a namespace of its own; its inode number.
fn enter() -> Result<u32> {
    // SAFETY: of all that can be unshared only a change of memory or of descriptors
    // could break safe code; this is neither.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace cannot be created")?;
    let netns = u32::try_from(fs::metadata("/proc/self/ns/net")?.ino())?;
    private_net::loopback_up().context("lo cannot be set up")?;
    Ok(netns)
}

/// The process as tracer sees it; dropping it ends it.
pub(crate) struct Actor {
    pub(super) pid: u32,
    process: Child,
    orders: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts it; to be called inside of the runtime, with the privileges that it needs.
    ///
    /// # Errors
    /// This program cannot be started again.
    pub(super) fn start() -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It has nothing to say there, and whoever reads tracer's must not wait for it.
            .stderr(Stdio::null())
            // Ctrl-C is for tracer.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("tracer cannot be started again")?;
        let reports = process.stdout.take().context("no channel")?;
        Ok(Self {
            pid: process.id().context("it has ended")?,
            orders: process.stdin.take(),
            process,
            reports: BufReader::new(reports).lines(),
        })
    }

    /// Its next report; `None`: it has ended. Safe to cancel.
    pub(super) async fn report(&mut self) -> Option<Report> {
        let line = self.reports.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Gives an order: what is to be caused. It fits into the pipe.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) async fn order(&mut self, purposes: &[Purpose]) -> Result<()> {
        let mut line = serde_json::to_vec(purposes)?;
        line.push(b'\n');
        let orders = self.orders.as_mut().context("it has ended")?;
        Ok(orders.write_all(&line).await?)
    }

    /// Ends it.
    pub(super) fn kill(&mut self) {
        self.orders = None;
        // An error: it has ended by itself.
        let _ = self.process.start_kill();
    }

    /// Waits until it is gone. Safe to cancel.
    pub(super) async fn ended(&mut self) {
        let _ = self.process.wait().await;
    }
}

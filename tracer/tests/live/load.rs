//! Loads for `cargo xtask bench`: a process in a network namespace of its own, which
//! is gone with it. It obeys one line of its stdin after another, answers each with a
//! line of JSON, and ends with its stdin.

mod connections;
mod crowd;
mod drops;
mod failures;
mod mixed;

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::netns::Namespace;
use crate::{bpf, say, sys};

/// Obeys until nobody has an order any more.
pub(crate) fn serve() -> Result<()> {
    sys::die_with_parent()?;
    sys::allow_files()?;
    let space = Namespace::new()?;
    sys::enter(space.handle().as_raw_fd())?;
    let mut load = Load {
        space,
        held: Vec::new(),
        statistics: None,
        mixed: None,
    };
    say::line(&json!({ "netns": load.space.inum }).to_string());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let begun = Instant::now();
        let mut answer = load.obey(&words).with_context(|| line.clone())?;
        if answer["seconds"].is_null() {
            answer["seconds"] = json!(begun.elapsed().as_secs_f64());
        }
        say::line(&answer.to_string());
    }
    Ok(())
}

/// What orders leave behind for those that follow.
struct Load {
    space: Namespace,
    /// Sockets that shall stay open.
    held: Vec<i32>,
    /// While it is open, the kernel keeps statistics of its programs.
    statistics: Option<std::os::fd::OwnedFd>,
    mixed: Option<mixed::Mixed>,
}

impl Load {
    fn obey(&mut self, words: &[&str]) -> Result<Value> {
        match *words {
            ["statistics"] => {
                self.statistics = Some(bpf::keep_statistics()?);
                Ok(json!({}))
            }
            ["connects", count] => self.connects(count.parse()?),
            ["time-wait", ports] => self.time_wait(ports.parse()?),
            ["established", ports] => self.established(ports.parse()?),
            ["no-ports"] => self.no_ports(),
            ["fail", millis] => self.fail(millis.parse()?),
            ["fail-once"] => self.fail_once(),
            ["fail-to", destinations] => self.fail_to(destinations.parse()?),
            ["fail-from", processes] => self.fail_from(processes.parse()?),
            ["spin", loud, millis] => self.spin(loud.parse()?, millis.parse()?),
            ["storm", loud, millis] => self.storm(loud.parse()?, millis.parse()?),
            ["mixed", rate, millis] => self.mixed(rate.parse()?, millis.parse()?),
            ["drop", rate, millis] => self.drop(rate.parse()?, millis.parse()?),
            ["drop-at", listeners] => self.drop_at(listeners.parse()?),
            _ => bail!("no such load"),
        }
    }
}

/// Now, by the clock that records have.
fn wall_clock() -> Result<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.as_secs_f64())
}

/// Processes may have few descriptors: several do the work, a part of `total` each, and
/// keep their sockets until this process ends.
fn by_children(total: u32, work: impl Fn(u32, u32) -> Result<()>) -> Result<()> {
    const EACH: u32 = 2_000;
    for first in (0..total).step_by(EACH as usize) {
        let (mut near, mut far) = UnixStream::pair()?;
        if sys::fork()? == 0 {
            sys::die_with_parent()?;
            work(first, EACH.min(total - first))?;
            far.write_all(b"!")?;
            loop {
                std::thread::park();
            }
        }
        drop(far);
        near.read_exact(&mut [0]).context("a child failed")?;
    }
    Ok(())
}

//! A child process as a scenario sees it: a name, a pid, and orders to give.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::netns::Namespace;
use crate::{agent, limits, sys};

/// How many forks of itself a role can bear.
const SPARES: usize = 3;

/// A process of ours (see `agent.rs` for the orders).
#[derive(Debug)]
pub(crate) struct Role {
    /// Its pid; ours is the initial pid namespace.
    pub(crate) pid: i32,
    /// The name that it gave itself.
    pub(crate) comm: String,
    channel: RefCell<BufReader<UnixStream>>,
    spares: RefCell<VecDeque<(usize, UnixStream)>>,
    ended: Cell<bool>,
}

impl Role {
    /// Starts one inside `space`.
    pub(crate) fn start(space: &Namespace, comm: &str) -> Result<Self> {
        Self::start_as(space, comm.as_bytes())
    }

    /// The same; its name may be anything but zeros.
    pub(crate) fn start_as(space: &Namespace, comm: &[u8]) -> Result<Self> {
        let mut ours = VecDeque::new();
        let mut theirs = Vec::new();
        for _ in 0..=SPARES {
            let (near, far) = UnixStream::pair()?;
            near.set_read_timeout(Some(limits::event()))?;
            ours.push_back(near);
            theirs.push(far);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--role", "agent"])
            .arg(OsStr::from_bytes(comm))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let numbers: Vec<RawFd> = theirs.iter().map(|end| end.as_raw_fd()).collect();
        let hand_over = move || {
            for (target, fd) in (agent::CONTROL..).zip(&numbers) {
                // SAFETY: two numbers; the copy survives exec, which is the purpose.
                sys::check(unsafe { libc::dup2(*fd, target) })?;
            }
            Ok(())
        };
        // SAFETY: the closure only calls dup2, which is async-signal-safe.
        unsafe { command.pre_exec(hand_over) };
        let child = space.run(|| command.spawn().context("starting a role"))?;
        let channel = ours.pop_front().context("no channel")?;
        let role = Self {
            pid: i32::try_from(child.id())?,
            comm: as_kept(&String::from_utf8_lossy(comm)),
            channel: RefCell::new(BufReader::new(channel)),
            spares: RefCell::new((1..).zip(ours).collect()),
            ended: Cell::new(false),
        };
        // Any answer proves that it has its name and listens.
        role.errno("close -1")?;
        Ok(role)
    }

    /// Forks it: same descriptors, another name, and the pid `wanted` if one is.
    pub(crate) fn fork(&self, comm: &str, wanted: Option<i32>) -> Result<Self> {
        let (slot, channel) = self
            .spares
            .borrow_mut()
            .pop_front()
            .context("no channel is left for a fork")?;
        let order = wanted.map_or_else(
            || format!("fork {comm} {slot}"),
            |pid| format!("fork-as {comm} {slot} {pid}"),
        );
        let pid = self.ask(&order)?.parse()?;
        let role = Self {
            pid,
            comm: as_kept(comm),
            channel: RefCell::new(BufReader::new(channel)),
            spares: RefCell::default(),
            ended: Cell::new(false),
        };
        role.errno("close -1")?;
        Ok(role)
    }

    /// Gives an order; the text of its answer.
    pub(crate) fn ask(&self, order: &str) -> Result<String> {
        let mut channel = self.channel.borrow_mut();
        let mut reply = String::new();
        writeln!(channel.get_mut(), "{order}")
            .and_then(|()| channel.read_line(&mut reply))
            .with_context(|| format!("{}: {order}", self.comm))?;
        match reply.trim_end().split_once(' ') {
            Some(("ok", value)) => Ok(value.to_owned()),
            _ => bail!("{}: {order}: {}", self.comm, reply.trim_end()),
        }
    }

    /// An order that must succeed; its value.
    pub(crate) fn ok(&self, order: &str) -> Result<i32> {
        let value: i32 = self.ask(order)?.parse()?;
        ensure!(
            value >= 0,
            "{}: {order}: {}",
            self.comm,
            std::io::Error::from_raw_os_error(-value)
        );
        Ok(value)
    }

    /// An order that may fail; its errno, 0 when it succeeded.
    pub(crate) fn errno(&self, order: &str) -> Result<i32> {
        let value: i32 = self.ask(order)?.parse()?;
        Ok((-value).max(0))
    }

    /// An order that must fail with `errno`: the failing program's own view.
    pub(crate) fn fails(&self, order: &str, errno: i32) -> Result<()> {
        let seen = self.errno(order)?;
        ensure!(
            seen == errno,
            "{}: {order}: expected errno {errno}, got {seen}",
            self.comm
        );
        Ok(())
    }

    /// Non-blocking connects that stay open.
    pub(crate) fn connects(&self, kind: &str, count: usize, to: &str) -> Result<Connects> {
        let reply = self.ask(&format!("many {kind} {count} {to}"))?;
        let mut connects = Connects::default();
        for word in reply.split_whitespace() {
            let (local, errno) = word.rsplit_once('=').context("a connect without errno")?;
            match errno.parse()? {
                0 | libc::EINPROGRESS => connects.begun.push(plain(local)),
                errno => connects.failed.push(errno),
            }
        }
        Ok(connects)
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) fn kill(&self) {
        if !self.ended.replace(true) {
            let _ = sys::signal(self.pid, libc::SIGKILL);
            let _ = sys::wait(self.pid);
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The kernel keeps 15 bytes of a name.
fn as_kept(comm: &str) -> String {
    comm.chars().take(15).collect()
}

/// What became of many connects.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    /// Local addresses of those that found a port.
    pub(crate) begun: Vec<String>,
    /// errno of the others.
    pub(crate) failed: Vec<i32>,
}

/// A v4-mapped address the way tracer shows it.
fn plain(local: &str) -> String {
    local
        .strip_prefix("[::ffff:")
        .map_or_else(|| local.to_owned(), |rest| rest.replacen(']', "", 1))
}

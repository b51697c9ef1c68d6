//! A private network namespace, the actors in it, and what its own counters say.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tracer_common::{Cause, Kind};

use super::actor::{Actor, Handle, Order, Who};
use crate::{
    attribute::namespaces::{self, Netstat},
    explain::{finding::PortState, snapshot},
    host::{
        private_net as net,
        sock_diag::{LISTENERS, Protocol},
    },
};

/// The namespaces that are ours, by inode number.
#[derive(Clone, Default)]
pub(super) struct Ours(Arc<Mutex<BTreeSet<u32>>>);

impl Ours {
    pub(super) fn has(&self, netns: u32) -> bool {
        let ours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ours.contains(&netns)
    }

    fn add(&self, netns: u32) {
        let mut ours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ours.insert(netns);
    }
}

/// Why something cannot be provoked here: no fault of tracer's.
#[derive(Debug)]
pub(super) struct Unfit(pub(super) String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// One failure that tracer must see, and how it is provoked.
pub(super) struct Scene {
    pub(super) kind: Kind,
    pub(super) cause: Cause,
    /// It is not about the failure but about who closed the connections whose
    /// ports are missing.
    pub(super) is_about_closers: bool,
    pub(super) play: fn(&mut Stage) -> Result<Told>,
}

/// What is known of a failure without tracer.
#[derive(Debug)]
pub(super) struct Told {
    /// Whom tracer must name.
    pub(super) blamed: Who,
    pub(super) evidence: Evidence,
    /// Whose ports a census must find, in which state, and how many.
    pub(super) ports: Option<(PortState, u32, Who)>,
    /// They are needed until tracer has looked at them.
    pub(super) cast: Vec<Actor>,
}

/// What tells that something failed, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// This many calls failed with this.
    Calls(u64, &'static str),
    /// The namespace's own counters tell.
    Counters,
}

/// A namespace of its own.
pub(super) struct Stage {
    pub(super) netns: u32,
    /// Its counters; readable as long as this is open.
    pub(super) netstat: File,
}

/// How long anything may take that takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

impl Stage {
    /// Moves the calling thread, which must do nothing else, into a new namespace.
    ///
    /// # Errors
    /// That is not permitted.
    pub(super) fn build(ours: &Ours) -> Result<Self> {
        // SAFETY: of all that can be unshared only a change of memory or of
        // descriptors could break safe code; this is neither.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .context("no network namespace can be made")?;
        let path = "/proc/thread-self/ns/net";
        let netns = u32::try_from(fs::metadata(path).context(path)?.ino())?;
        ours.add(netns);
        net::loopback_up().context("lo cannot be set up")?;
        let path = "/proc/thread-self/net/netstat";
        let netstat = File::open(path).context(path)?;
        Ok(Self { netns, netstat })
    }

    /// Writes a setting of the namespace: the calling thread's own.
    ///
    /// # Errors
    /// [`Unfit`] if /proc/sys cannot be written or this kernel lacks the setting.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("net/ipv4/{name}");
        net::set(&path, value).map_err(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotFound => {
                let why = format!("net.ipv4.{name} cannot be set here: {error}");
                anyhow::Error::new(Unfit(why))
            }
            _ => anyhow::Error::new(error).context(path),
        })
    }

    /// The kernel's own counters.
    pub(super) fn counters(&self) -> Result<Netstat> {
        namespaces::read(&self.netstat).context("the namespace's counters cannot be read")
    }

    /// Waits until the counters are as they must become.
    pub(super) fn await_counters(&self, reached: impl Fn(&Netstat) -> bool) -> Result<()> {
        wait(|| Ok(reached(&self.counters()?))).with_context(|| {
            format!(
                "the kernel drops nothing: {:?}",
                self.counters().unwrap_or_default()
            )
        })
    }

    /// One connect; waits until the kernel has either let it in or dropped its SYN:
    /// SYNs that pile up would all be answered before the first handshake ends.
    pub(super) fn knock(
        &self,
        client: &mut Actor,
        to: SocketAddr,
        is_let_in: impl Fn(&mut Actor, Handle) -> Result<bool>,
    ) -> Result<Knock> {
        let before = self.counters()?.listen_drops;
        let socket = client.tell(Order::Open { v6: false })?;
        client.tell(Order::Connect(socket, to))?;
        let mut knock = Knock::LetIn(socket);
        wait(|| {
            if self.counters()?.listen_drops > before {
                knock = Knock::Dropped(socket);
                return Ok(true);
            }
            is_let_in(client, socket)
        })
        .context("a SYN that was neither answered nor dropped")?;
        Ok(knock)
    }
}

/// What became of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    LetIn(Handle),
    Dropped(Handle),
}

/// How many connections wait in the accept queues of the calling thread's
/// namespace.
pub(super) fn queued() -> Result<u32> {
    let listeners = snapshot::list(Protocol::Tcp, LISTENERS)?;
    Ok(listeners.iter().map(|row| row.receive_queue).sum())
}

/// Waits until it is so.
pub(super) fn wait(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "it took too long");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

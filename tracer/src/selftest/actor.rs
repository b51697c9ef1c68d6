//! A process that fails on command: this program once more, under a name of its
//! own, so that it is another process that must be named.
//!
//! Orders and answers are lines of JSON on its standard input and output. It ends
//! when nobody can give it orders any more.

use std::{
    ffi::CString,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, listen,
        send, socket_with, sockopt,
    },
    thread,
};
use serde::{Deserialize, Serialize};

use crate::host::private_net as net;

/// The hidden verb under which it runs.
pub(crate) const VERB: &str = "selftest-actor";

/// A socket of an actor: the how-manieth it opened.
pub(super) type Handle = usize;

/// What an actor can do. Calls that could wait do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Opens a TCP socket; its handle.
    Open {
        v6: bool,
    },
    /// `SO_REUSEADDR`
    Share(Handle),
    /// `TCP_DEFER_ACCEPT`
    Defer(Handle),
    Bind(Handle, SocketAddr),
    Listen(Handle, i32),
    Connect(Handle, SocketAddr),
    /// The handle of the connection.
    Accept(Handle),
    /// One byte.
    Send(Handle),
    /// 1 if connected, 0 if not yet; what it failed with, once.
    Connected(Handle),
    Close(Handle),
    /// Closes with a reset, or gives up connecting.
    Reset(Handle),
}

/// What came of it: a number, or an errno.
type Answer = Result<usize, i32>;

/// Does as it is told; the inside of the process.
///
/// # Errors
/// The other side speaks another language.
pub(crate) fn serve(name: &str) -> Result<()> {
    thread::set_name(&CString::new(name)?)?;
    let mut sockets = Sockets(Vec::new());
    for line in io::stdin().lines() {
        let order = serde_json::from_str(&line?).context("no order")?;
        let answer: Answer = sockets.obey(order).map_err(Errno::raw_os_error);
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        io::stdout().write_all(&answer)?;
    }
    Ok(())
}

struct Sockets(Vec<Option<OwnedFd>>);

impl Sockets {
    fn obey(&mut self, order: Order) -> Result<usize, Errno> {
        match order {
            Order::Open { v6 } => {
                let family = if v6 {
                    AddressFamily::INET6
                } else {
                    AddressFamily::INET
                };
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                Ok(self.keep(socket_with(family, SocketType::STREAM, flags, None)?))
            }
            Order::Share(socket) => done(sockopt::set_socket_reuseaddr(self.get(socket)?, true)),
            Order::Defer(socket) => done(net::defer_accept(self.get(socket)?.as_fd())),
            Order::Bind(socket, to) => done(bind(self.get(socket)?, &to)),
            Order::Listen(socket, backlog) => done(listen(self.get(socket)?, backlog)),
            Order::Connect(socket, to) => done(match connect(self.get(socket)?, &to) {
                Err(Errno::INPROGRESS) => Ok(()),
                other => other,
            }),
            Order::Accept(socket) => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let accepted = accept_with(self.get(socket)?, flags)?;
                Ok(self.keep(accepted))
            }
            Order::Send(socket) => send(self.get(socket)?, b"x", SendFlags::NOSIGNAL),
            Order::Connected(socket) => {
                let socket = self.get(socket)?;
                sockopt::socket_error(socket)??;
                Ok(usize::from(rustix::net::getpeername(socket).is_ok()))
            }
            Order::Close(socket) => self.take(socket).map(drop).map(|()| 0),
            Order::Reset(socket) => {
                let socket = self.take(socket)?;
                done(sockopt::set_socket_linger(&socket, Some(Duration::ZERO)))
            }
        }
    }

    fn keep(&mut self, socket: OwnedFd) -> Handle {
        self.0.push(Some(socket));
        self.0.len() - 1
    }

    fn get(&self, handle: Handle) -> Result<&OwnedFd, Errno> {
        self.0
            .get(handle)
            .and_then(Option::as_ref)
            .ok_or(Errno::BADF)
    }

    fn take(&mut self, handle: Handle) -> Result<OwnedFd, Errno> {
        self.0
            .get_mut(handle)
            .and_then(Option::take)
            .ok_or(Errno::BADF)
    }
}

fn done(result: Result<(), Errno>) -> Result<usize, Errno> {
    result.map(|()| 0)
}

/// Whom tracer must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) comm: String,
}

/// An actor as seen from outside; dropping it ends it.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) who: Who,
    process: Child,
    /// `None` once it is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// This program cannot be started again.
    pub(super) fn start(name: &str) -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .args([VERB, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("tracer cannot be started again")?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().context("no channel to an actor")?;
        let mut actor = Self {
            who: Who {
                pid: process.id(),
                comm: name.to_owned(),
            },
            process,
            orders,
            answers: BufReader::new(answers),
        };
        // An answer, whatever it is, tells that it has its name.
        let _ = actor.attempt(Order::Close(0))?;
        Ok(actor)
    }

    /// Gives an order that may fail.
    ///
    /// # Errors
    /// The actor is gone.
    pub(super) fn attempt(&mut self, order: Order) -> Result<Answer> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        let orders = self.orders.as_mut().context("the actor has ended")?;
        orders.write_all(&line)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).with_context(|| format!("{} has ended", self.who.comm))
    }

    /// Gives an order that must succeed.
    ///
    /// # Errors
    /// It does not, or the actor is gone.
    pub(super) fn tell(&mut self, order: Order) -> Result<usize> {
        self.attempt(order)?.map_err(|errno| {
            let error = io::Error::from_raw_os_error(errno);
            anyhow::Error::new(error).context(format!("{}: {order:?}", self.who.comm))
        })
    }

    /// Gives an order that must fail with `errno`.
    ///
    /// # Errors
    /// It does not, or the actor is gone.
    pub(super) fn fail(&mut self, order: Order, errno: Errno) -> Result<()> {
        match self.attempt(order)? {
            Err(found) if found == errno.raw_os_error() => Ok(()),
            other => bail!(
                "{}: {order:?} was to fail with {errno}, but: {}",
                self.who.comm,
                match other {
                    Ok(_) => "it did not".to_owned(),
                    Err(found) => io::Error::from_raw_os_error(found).to_string(),
                }
            ),
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.orders = None;
        // It ends by itself; this is for one that hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

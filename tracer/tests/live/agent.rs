//! The inside of a child process: it does, one line at a time, what a scenario
//! tells it to, so that each system call happens in a process with a telling name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{limits, sys, uring};

/// The descriptor of the control channel; those of forks to come follow it.
pub(crate) const CONTROL: RawFd = 900;

/// Serves orders until the channel closes.
pub(crate) fn serve(comm: &[u8]) -> Result<()> {
    sys::set_comm(comm)?;
    let mut agent = Agent::on(CONTROL);
    loop {
        let mut line = String::new();
        if agent.orders.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let reply = match agent.obey(&words) {
            Ok(Some(reply)) => format!("ok {reply}\n"),
            Ok(None) => continue,
            Err(error) => format!("err {error:#}\n"),
        };
        agent.orders.get_mut().write_all(reply.as_bytes())?;
    }
}

struct Agent {
    orders: BufReader<UnixStream>,
}

impl Agent {
    fn on(fd: RawFd) -> Self {
        // SAFETY: the harness put a socket of ours at this number.
        let stream = unsafe { UnixStream::from_raw_fd(fd) };
        Self {
            orders: BufReader::new(stream),
        }
    }

    /// `None`: the reply is not ours to give (we are a fresh fork).
    fn obey(&mut self, words: &[&str]) -> Result<Option<String>> {
        match words {
            ["fork", comm, slot] => self.fork(comm, slot.parse()?, sys::fork()?),
            ["fork-as", comm, slot, pid] => {
                self.fork(comm, slot.parse()?, sys::fork_as(pid.parse()?)?)
            }
            _ => order(words).map(Some),
        }
    }

    /// Both sides of a fork come here; `pid` is 0 in the child.
    fn fork(&mut self, comm: &str, slot: RawFd, pid: i32) -> Result<Option<String>> {
        if pid != 0 {
            return Ok(Some(pid.to_string()));
        }
        sys::set_comm(comm.as_bytes())?;
        *self = Self::on(CONTROL + slot);
        Ok(None)
    }
}

fn order(words: &[&str]) -> Result<String> {
    let result = match *words {
        ["socket", kind] => socket(kind),
        ["nonblock", fd] => sys::set_nonblocking(fd.parse()?).map(|()| 0),
        ["reuseaddr", fd] => socket_option(fd.parse()?, libc::SO_REUSEADDR),
        ["reuseport", fd] => socket_option(fd.parse()?, libc::SO_REUSEPORT),
        ["defer-accept", fd] => {
            sys::set_option(fd.parse()?, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 30).map(|()| 0)
        }
        ["bind", fd, addr] => sys::bind(fd.parse()?, &addr.parse()?),
        ["listen", fd, backlog] => sys::listen(fd.parse()?, backlog.parse()?),
        ["files", most] => sys::limit_files(most.parse()?),
        ["rename", comm] => sys::set_comm(comm.as_bytes()).map(|()| 0),
        ["listener", kind, addr, backlog] => listener(kind, &addr.parse()?, backlog.parse()?, &[]),
        ["group-listener", kind, addr, backlog] => listener(
            kind,
            &addr.parse()?,
            backlog.parse()?,
            &[libc::SO_REUSEPORT],
        ),
        ["connect", fd, addr] => sys::connect(fd.parse()?, &addr.parse()?),
        ["disconnect", fd] => sys::disconnect(fd.parse()?),
        ["fast-open", fd, addr] => sys::fast_open(fd.parse()?, &addr.parse()?),
        ["ring-connect", fd, addr] => uring::connect(fd.parse()?, &addr.parse()?),
        ["accept", fd] => sys::accept(fd.parse()?, limits::event()),
        ["await-end", fd] => sys::await_end(fd.parse()?).map(|()| 0),
        ["close", fd] => sys::close(fd.parse()?),
        ["shutdown", fd] => sys::shutdown(fd.parse()?),
        ["reset", fd] => sys::reset(fd.parse()?),
        ["wait", fd] => sys::readable(fd.parse()?, limits::event()).map(i32::from),
        ["own-range", fd, low, high] => own_range(fd.parse()?, low.parse()?, high.parse()?),
        ["take", pid, fd] => sys::take_descriptor(pid.parse()?, fd.parse()?),
        ["name", fd] => return Ok(sys::name(fd.parse()?)?.to_string()),
        ["many", kind, count, addr] => return many(kind, count.parse()?, &addr.parse()?),
        ["repeat", kind, count, addr] => return repeat(kind, count.parse()?, &addr.parse()?),
        ["churn", comm, kind, count, rate, addr] => {
            return churn(comm, kind, count.parse()?, rate.parse()?, &addr.parse()?);
        }
        ["vanish", comm, kind, addr] => return vanish(comm, kind, &addr.parse()?),
        ["thread", comm, kind, addr] => return thread(comm, kind, addr.parse()?),
        ["join", file] => {
            std::fs::write(file, "0").with_context(|| file.to_owned())?;
            Ok(0)
        }
        _ => bail!("no such order: {words:?}"),
    };
    Ok(as_number(result).to_string())
}

/// The result as the kernel gives it: negative errno or value.
fn as_number(result: std::io::Result<i32>) -> i32 {
    match result {
        Ok(value) => value,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn socket(kind: &str) -> std::io::Result<i32> {
    let family = if kind.ends_with('6') {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    match kind.trim_end_matches(['4', '6']) {
        "tcp" => sys::socket(family, libc::SOCK_STREAM, 0),
        "mptcp" => sys::socket(family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        "udp" => sys::socket(family, libc::SOCK_DGRAM, 0),
        _ => Err(std::io::Error::from_raw_os_error(libc::EPROTONOSUPPORT)),
    }
}

fn socket_option(fd: RawFd, option: i32) -> std::io::Result<i32> {
    sys::set_option(fd, libc::SOL_SOCKET, option, 1).map(|()| 0)
}

/// `IP_LOCAL_PORT_RANGE`
fn own_range(fd: RawFd, low: i32, high: i32) -> std::io::Result<i32> {
    const IP_LOCAL_PORT_RANGE: i32 = 51;
    sys::set_option(fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, high << 16 | low).map(|()| 0)
}

fn listener(kind: &str, addr: &SocketAddr, backlog: i32, options: &[i32]) -> std::io::Result<i32> {
    let fd = socket(kind)?;
    for option in options {
        socket_option(fd, *option)?;
    }
    sys::bind(fd, addr)?;
    sys::listen(fd, backlog)?;
    Ok(fd)
}

/// `count` non-blocking connects that stay open: their `local address=errno`.
fn many(kind: &str, count: usize, addr: &SocketAddr) -> Result<String> {
    let mut results = Vec::new();
    for _ in 0..count {
        let fd = socket(kind)?;
        sys::set_nonblocking(fd)?;
        let result = as_number(sys::connect(fd, addr));
        results.push(format!("{}={}", sys::name(fd)?, -result));
    }
    Ok(results.join(" "))
}

/// `count` connects, one after another: how many of them failed for want of a port.
fn repeat(kind: &str, count: usize, addr: &SocketAddr) -> Result<String> {
    let mut failed = 0;
    for _ in 0..count {
        let fd = socket(kind)?;
        if as_number(sys::connect(fd, addr)) == -libc::EADDRNOTAVAIL {
            failed += 1;
        }
        sys::close(fd)?;
    }
    Ok(failed.to_string())
}

fn connect_once(kind: &str, addr: &SocketAddr) -> i32 {
    -as_number(socket(kind).and_then(|fd| sys::connect(fd, addr)))
}

/// A process that fails and is gone before anybody can look: `pid errno`.
fn vanish(comm: &str, kind: &str, addr: &SocketAddr) -> Result<String> {
    let pid = sys::run_in_child(&|| match sys::set_comm(comm.as_bytes()) {
        Ok(()) => connect_once(kind, addr),
        Err(_) => 255,
    })?;
    let status = sys::wait(pid)?;
    Ok(format!("{pid} {}", libc::WEXITSTATUS(status)))
}

/// As many a second as can be.
pub(crate) const FAST: f64 = f64::INFINITY;

/// `count` processes that fail once and are gone, at most `rate` a second: the pids of
/// those that failed for want of a port.
pub(crate) fn churn(
    comm: &str,
    kind: &str,
    count: usize,
    rate: f64,
    addr: &SocketAddr,
) -> Result<String> {
    let mut failed = Vec::new();
    let begun = Instant::now();
    for nth in 0..count {
        let due = Duration::from_secs_f64(nth as f64 / rate);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let told = vanish(comm, kind, addr)?;
        if let Some((pid, "99")) = told.split_once(' ') {
            failed.push(pid.to_owned());
        }
    }
    Ok(failed.join(" "))
}

/// A thread that fails: `tid errno`.
fn thread(comm: &str, kind: &str, addr: SocketAddr) -> Result<String> {
    let (comm, kind) = (comm.to_owned(), kind.to_owned());
    let done = std::thread::spawn(move || {
        sys::set_comm(comm.as_bytes())?;
        Ok::<_, std::io::Error>((sys::thread_id(), connect_once(&kind, &addr)))
    });
    match done.join() {
        Ok(result) => {
            let (tid, errno) = result?;
            Ok(format!("{tid} {errno}"))
        }
        Err(_) => bail!("the thread panicked"),
    }
}

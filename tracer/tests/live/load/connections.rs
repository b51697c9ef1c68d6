//! Connections that succeed: opened and closed, or left in the state that is wanted.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Load, by_children, wall_clock};
use crate::sys;

const PORT: u16 = 8080;
/// With several destinations no connect has to look for a free port.
const DESTINATIONS: u8 = 8;
/// The first ephemeral port.
const LOWEST: u32 = 20_000;

impl Load {
    /// `count` times socket, connect, accept, close (the client first), close.
    pub(super) fn connects(&mut self, count: u32) -> Result<Value> {
        self.ports(40_000)?;
        let listener = listener()?;
        for nth in 0..count {
            let host = u8::try_from(nth % u32::from(DESTINATIONS))?;
            let (client, server) = connection(listener, host + 1)?;
            sys::close(client)?;
            sys::close(server)?;
        }
        sys::close(listener)?;
        Ok(json!({ "count": count }))
    }

    /// All of `ports` ephemeral ports are in TIME_WAIT.
    pub(super) fn time_wait(&mut self, ports: u32) -> Result<Value> {
        self.ports(ports)?;
        let listener = listener()?;
        self.held.push(listener);
        self.each_port(listener, 0, ports, |client, server| {
            sys::close(client)?;
            sys::close(server)?;
            Ok(())
        })?;
        self.range(LOWEST, ports)?;
        Ok(json!({ "sockets": ports }))
    }

    /// All of `ports` ephemeral ports are in use, by connections whose both ends are here.
    pub(super) fn established(&mut self, ports: u32) -> Result<Value> {
        self.ports(ports)?;
        let listener = listener()?;
        self.held.push(listener);
        by_children(ports, |first, count| {
            self.each_port(listener, first, count, |_, _| Ok(()))
        })?;
        self.range(LOWEST, ports)?;
        Ok(json!({ "sockets": 2 * ports }))
    }

    /// One more connect, when the ports are used up: when, and what became of it.
    pub(super) fn fail_once(&mut self) -> Result<Value> {
        let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        let at = wall_clock()?;
        let errno = match sys::connect(client, &to(1)) {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        sys::close(client)?;
        Ok(json!({ "at": at, "errno": errno }))
    }

    /// A connection from each of these ephemeral ports. The kernel would look through
    /// all ports for each of the last ones: it may have a hundred at a time.
    fn each_port(
        &self,
        listener: i32,
        first: u32,
        count: u32,
        each: impl Fn(i32, i32) -> Result<()>,
    ) -> Result<()> {
        const AT_ONCE: u32 = 100;
        for done in (0..count).step_by(AT_ONCE as usize) {
            let these = AT_ONCE.min(count - done);
            self.range(LOWEST + first + done, these)?;
            for _ in 0..these {
                let (client, server) = connection(listener, 1)?;
                each(client, server)?;
            }
        }
        Ok(())
    }

    fn range(&self, lowest: u32, count: u32) -> Result<()> {
        let range = format!("{lowest} {}", lowest + count - 1);
        self.space.sysctl("net/ipv4/ip_local_port_range", &range)
    }

    /// So many ephemeral ports, none of which is used again too early.
    fn ports(&self, count: u32) -> Result<()> {
        self.range(LOWEST, count)?;
        self.space.sysctl("net/ipv4/tcp_tw_reuse", "0")?;
        self.space.sysctl("net/ipv4/tcp_max_tw_buckets", "1000000")
    }
}

fn to(host: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], PORT))
}

fn listener() -> Result<i32> {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::bind(fd, &SocketAddr::from(([0, 0, 0, 0], PORT)))?;
    sys::listen(fd, 128)?;
    Ok(fd)
}

/// A client and what was accepted. On loopback a connect ends when the handshake does.
fn connection(listener: i32, host: u8) -> Result<(i32, i32)> {
    let client = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::connect(client, &to(host)).context("connect")?;
    Ok((client, sys::accept_now(listener)?))
}

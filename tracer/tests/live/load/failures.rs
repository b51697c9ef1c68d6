//! Connects that find no port.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Load;
use crate::agent::{self, FAST};
use crate::sys;

pub(super) const FIRST: u16 = 40_000;
const PORTS: u16 = 4;

impl Load {
    /// Four ephemeral ports, and each is bound by a socket that does nothing with it:
    /// no destination can be reached.
    pub(super) fn no_ports(&mut self) -> Result<Value> {
        self.space.four_ports()?;
        for port in FIRST..FIRST + PORTS {
            let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
            sys::bind(fd, &SocketAddr::from(([0, 0, 0, 0], port)))?;
            self.held.push(fd);
        }
        Ok(json!({}))
    }

    /// As many as one thread can have fail in this time.
    pub(super) fn fail(&mut self, millis: u64) -> Result<Value> {
        let limit = Duration::from_millis(millis);
        let begun = Instant::now();
        let mut failed = 0_u64;
        while begun.elapsed() < limit {
            for _ in 0..100 {
                fail(&destination(0))?;
            }
            failed += 100;
        }
        Ok(json!({ "failed": failed }))
    }

    /// One failure towards each of so many destinations.
    pub(super) fn fail_to(&mut self, destinations: u32) -> Result<Value> {
        for nth in 0..destinations {
            fail(&destination(nth))?;
        }
        Ok(json!({ "failed": destinations }))
    }

    /// One failure of each of so many processes, which are gone at once.
    pub(super) fn fail_from(&mut self, processes: usize) -> Result<Value> {
        let pids = agent::churn("short-lived", "tcp4", processes, FAST, &destination(0))?;
        Ok(json!({ "failed": pids.split_whitespace().count() }))
    }
}

pub(super) fn destination(nth: u32) -> SocketAddr {
    let [_, a, b, c] = nth.to_be_bytes();
    SocketAddr::from(([127, 1 + a, b, c], 8080))
}

pub(super) fn fail(to: &SocketAddr) -> Result<()> {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let failed = sys::connect(fd, to).is_err_and(|e| e.raw_os_error() == Some(libc::EADDRNOTAVAIL));
    sys::close(fd)?;
    ensure!(failed, "a connect to {to} did not fail for want of a port");
    Ok(())
}

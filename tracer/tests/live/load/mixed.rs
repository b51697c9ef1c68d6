//! All kinds of failures at once, at a modest rate, for as long as wanted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::failures::{self, FIRST};
use super::{Load, drops};
use crate::agent::{self, FAST};
use crate::counters::Counters;
use crate::sys;
use crate::tun::Tun;

/// What fails in one round.
const CONNECTS: u32 = 8;
const TAKEN: u32 = 4;
const UNBOUND: u32 = 2;
const SYNS: u32 = 4;
const PROCESSES: u32 = 2;
const ROUND: u32 = CONNECTS + TAKEN + UNBOUND + SYNS + PROCESSES;

/// How many destinations and clients there are.
const DESTINATIONS: u32 = 50;

/// What stays between two orders, and what failed so far, as the programs saw it.
pub(super) struct Mixed {
    tun: Tun,
    syns: Vec<Vec<u8>>,
    rounds: u32,
    connects: u64,
    short_lived: u64,
    binds: u64,
    sent: u64,
}

impl Load {
    /// `rate` failures a second for so long. Its answer is about all such orders.
    pub(super) fn mixed(&mut self, rate: u32, millis: u64) -> Result<Value> {
        let mut mixed = match self.mixed.take() {
            Some(mixed) => mixed,
            None => self.begin()?,
        };
        let limit = Duration::from_millis(millis);
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < limit {
            let due = Duration::from_secs_f64(f64::from(rounds * ROUND) / f64::from(rate));
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            mixed.round()?;
            rounds += 1;
        }
        let kernel = Counters::read(&self.space)?;
        let answer = json!({
            "connects": mixed.connects + mixed.short_lived,
            "own_connects": mixed.connects,
            "binds": mixed.binds,
            "syns": mixed.sent,
            "overflows": kernel.listen_overflows,
            "drops": kernel.listen_drops,
        });
        self.mixed = Some(mixed);
        Ok(answer)
    }

    fn begin(&mut self) -> Result<Mixed> {
        let tun = self.wire()?;
        // Its client shall not have one of the ports that are to be taken.
        self.space
            .sysctl("net/ipv4/ip_local_port_range", "20000 20999")?;
        let (listener, client) = drops::full_listener(drops::LOWEST)?;
        self.held.extend([listener, client]);
        self.no_ports()?;
        let syns = (0..64).map(|client| drops::syn(client, drops::LOWEST));
        Ok(Mixed {
            tun,
            syns: syns.collect::<Result<_>>()?,
            rounds: 0,
            connects: 0,
            short_lived: 0,
            binds: 0,
            sent: 0,
        })
    }
}

impl Mixed {
    fn round(&mut self) -> Result<()> {
        self.rounds = self.rounds.wrapping_add(1);
        let to = failures::destination(self.rounds % DESTINATIONS);
        for _ in 0..CONNECTS {
            failures::fail(&to)?;
        }
        let pids = agent::churn("short-lived", "tcp4", PROCESSES as usize, FAST, &to)?;
        let processes = pids.split_whitespace().count();
        ensure!(processes == PROCESSES as usize, "{processes} failed");
        self.connects += u64::from(CONNECTS);
        self.short_lived += u64::from(PROCESSES);
        for port in [FIRST; TAKEN as usize]
            .into_iter()
            .chain([0; UNBOUND as usize])
        {
            in_use(port)?;
            self.binds += 1;
        }
        for _ in 0..SYNS {
            let at = usize::try_from(self.sent)? % self.syns.len();
            self.tun.send_bytes(&self.syns[at])?;
            self.sent += 1;
        }
        Ok(())
    }
}

/// A bind to a port that is taken, or (0) to any, when all are.
fn in_use(port: u16) -> Result<()> {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let bound = sys::bind(fd, &SocketAddr::from(([0, 0, 0, 0], port)));
    sys::close(fd)?;
    let failed = bound.is_err_and(|error| error.raw_os_error() == Some(libc::EADDRINUSE));
    ensure!(failed, "a bind to port {port} did not fail");
    Ok(())
}

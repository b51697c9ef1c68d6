//! Loud ones beside a quiet one: what each did is known by itself.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Load;
use super::drops::{LOWEST, full_listener, syn, syns};
use super::failures::destination;
use crate::counters::Counters;
use crate::sys;

/// What the quiet one does in all the time.
const QUIET: u32 = 40;

impl Load {
    /// So many processes fail as often as they can, and one [`QUIET`] times. To be asked
    /// for after `no-ports`.
    pub(super) fn spin(&mut self, loud: u32, millis: u64) -> Result<Value> {
        let limit = Duration::from_millis(millis);
        let begun = Instant::now();
        let mut all = Vec::new();
        for nth in 0..=loud {
            let is_quiet = nth == loud;
            let (near, mut far) = UnixStream::pair()?;
            let pid = sys::fork()?;
            if pid == 0 {
                sys::die_with_parent()?;
                let failed = match is_quiet {
                    true => fail_quietly(limit)?,
                    false => fail_loudly(limit)?,
                };
                far.write_all(&failed.to_ne_bytes())?;
                loop {
                    thread::park();
                }
            }
            drop(far);
            all.push((pid, is_quiet, near));
        }
        let mut parties = Vec::new();
        for (pid, is_quiet, mut pipe) in all {
            let mut failed = [0; 8];
            pipe.read_exact(&mut failed).context("a process failed")?;
            let did = u64::from_ne_bytes(failed);
            parties.push(json!({ "pid": pid, "quiet": is_quiet, "did": did }));
        }
        Ok(json!({ "parties": parties, "seconds": begun.elapsed().as_secs_f64() }))
    }

    /// So many threads send SYNs to one full listener, as many as they can, and
    /// [`QUIET`] go to another.
    pub(super) fn storm(&mut self, loud: u16, millis: u64) -> Result<Value> {
        let tun = self.wire()?;
        for port in [LOWEST, LOWEST + 1] {
            let (listener, client) = full_listener(port)?;
            self.held.extend([listener, client]);
        }
        let syns = syns()?;
        let before = Counters::read(&self.space)?;
        let limit = Duration::from_millis(millis);
        let begun = Instant::now();
        let is_over = AtomicBool::new(false);
        let sent = thread::scope(|scope| -> Result<u64> {
            let flood = || -> Result<u64> {
                let mut sent = 0;
                for syn in syns.iter().cycle() {
                    tun.send_bytes(syn)?;
                    sent += 1;
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Ok(sent)
            };
            let threads: Vec<_> = (0..loud).map(|_| scope.spawn(flood)).collect();
            let quiet = (0..QUIET).try_for_each(|nth| {
                pause(begun, limit, nth);
                tun.send_bytes(&syn(u16::try_from(nth)?, LOWEST + 1)?)
            });
            is_over.store(true, Ordering::Relaxed);
            quiet?;
            let mut sent = 0;
            for thread in threads {
                sent += thread.join().ok().context("a thread panicked")??;
            }
            Ok(sent)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let now = Counters::read(&self.space)?;
        Ok(json!({
            "parties": [
                { "port": LOWEST, "quiet": false, "did": sent },
                { "port": LOWEST + 1, "quiet": true, "did": QUIET },
            ],
            "seconds": seconds,
            "drops": now.listen_drops - before.listen_drops,
        }))
    }
}

/// Until the `nth` of [`QUIET`] is due.
fn pause(begun: Instant, limit: Duration, nth: u32) {
    thread::sleep((limit / QUIET * (nth + 1)).saturating_sub(begun.elapsed()));
}

/// A socket that fails to connect can be used again.
fn fail(socket: i32, to: &SocketAddr) -> Result<()> {
    let failed =
        sys::connect(socket, to).is_err_and(|e| e.raw_os_error() == Some(libc::EADDRNOTAVAIL));
    ensure!(failed, "a connect to {to} did not fail for want of a port");
    Ok(())
}

fn fail_loudly(limit: Duration) -> Result<u64> {
    sys::set_comm(b"loud")?;
    let socket = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let begun = Instant::now();
    let mut failed = 0;
    while begun.elapsed() < limit {
        for _ in 0..100 {
            fail(socket, &destination(0))?;
        }
        failed += 100;
    }
    Ok(failed)
}

fn fail_quietly(limit: Duration) -> Result<u64> {
    sys::set_comm(b"quiet")?;
    let begun = Instant::now();
    for nth in 0..QUIET {
        pause(begun, limit, nth);
        super::failures::fail(&destination(0))?;
    }
    Ok(QUIET.into())
}

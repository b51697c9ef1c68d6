//! Whoever can reach `--metrics` does with it what he likes: it takes no more memory and
//! no more descriptors than it may, tracing goes on and counts exactly, and whoever asks
//! next gets his answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{address, await_value, scrape};
use crate::cli::{Desert, NOWHERE};
use crate::role::Role;
use crate::tracer::{Tracer, final_totals};
use crate::{limits, sys};

/// Connections that the endpoint has at a time (tracer/src/metrics/serve.rs).
const CONNECTIONS: usize = 16;

/// What they and their answers may take, kB.
const MEMORY: u64 = 16 * 1024;

/// Failures during each attack.
const FAILURES: u64 = 500;

pub(crate) fn all(path: &Path) -> Result<()> {
    sys::allow_files()?;
    let tracer = Tracer::started(path, &["--metrics", "127.0.0.1:0"])?;
    let address = address(&tracer)?;
    let at: SocketAddr = address.parse()?;
    let desert = Desert::new()?;
    let victim = desert.role("metrics-victim")?;
    // Once in peace: whatever is needed for that is not the attackers' doing.
    let mut failed = fail(&victim)?;
    scrape(&address)?;
    let before = Use::of(&tracer)?;
    forget_peak(&tracer)?;
    let attacks: [(&str, Attack); 4] = [
        ("slow", slow),
        ("oversized", oversized),
        ("unread", unread),
        ("many", many),
    ];
    for (name, attack) in attacks {
        failed += during(attack, at, &tracer, &before, &victim).context(name)?;
        scrape(&address).with_context(|| format!("after {name}"))?;
    }
    let peak = number(&tracer, "VmHWM:")?;
    ensure!(
        peak <= before.memory + MEMORY,
        "{} kB before, {peak} kB at most",
        before.memory
    );
    // Nobody is left: the last ones have had their time.
    limits::until("fewer descriptors", || {
        Ok(Use::of(&tracer)?.files <= before.files + CONNECTIONS)
    })?;
    let labels = [r#"kind="connect_failed""#, r#"process="metrics-victim""#];
    let described = "tracer_failures_described_total";
    await_value(&address, described, &labels, as_float(failed)?)?;
    let records = tracer.stop()?;
    let totals = final_totals(&records)?;
    let rows = totals["counts"].as_array().into_iter().flatten();
    let own = rows.filter(|row| row["netns"] == desert.space.inum);
    let counted: u64 = own.filter_map(|row| row["count"].as_u64()).sum();
    ensure!(counted == failed, "{failed} failed: {totals}");
    Ok(())
}

fn as_float(number: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(number)?))
}

/// Does its worst until told to stop, and may end before.
type Attack = fn(SocketAddr, &AtomicBool) -> Result<()>;

/// Attacks while failures are provoked; how many there were.
fn during(
    attack: Attack,
    at: SocketAddr,
    tracer: &Tracer,
    before: &Use,
    victim: &Role,
) -> Result<u64> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(at, &is_over));
        let failed = fail(victim);
        let now = Use::of(tracer);
        is_over.store(true, Ordering::Relaxed);
        let attacked = attacker.join().ok().context("the attack panicked")?;
        attacked.context("it could not attack")?;
        let (now, failed) = (now?, failed?);
        // One more while the next one is accepted; and a scrape looks into namespaces.
        ensure!(
            now.files <= before.files + CONNECTIONS + 8,
            "{} descriptors, {} before",
            now.files,
            before.files
        );
        Ok(failed)
    })
}

/// Provokes failures, all of which the program sees.
fn fail(victim: &Role) -> Result<u64> {
    let failed = victim.ok(&format!("repeat tcp4 {FAILURES} {NOWHERE}"))?;
    let failed = u64::try_from(failed)?;
    ensure!(failed == FAILURES, "{failed} failed");
    Ok(failed)
}

/// What tracer uses.
struct Use {
    /// Descriptors.
    files: usize,
    /// kB.
    memory: u64,
}

impl Use {
    fn of(tracer: &Tracer) -> Result<Self> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", tracer.pid()))?;
        Ok(Self {
            files: files.count(),
            memory: number(tracer, "VmRSS:")?,
        })
    }
}

/// The most memory that tracer had counts from now on (proc_pid_clear_refs(5)).
fn forget_peak(tracer: &Tracer) -> Result<()> {
    std::fs::write(format!("/proc/{}/clear_refs", tracer.pid()), "5").context("clear_refs")
}

fn number(tracer: &Tracer, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tracer.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.with_context(|| format!("no {name}: {status}"))
}

fn connect(at: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, limits::event())?;
    stream.set_read_timeout(Some(limits::event()))?;
    stream.set_write_timeout(Some(limits::event()))?;
    Ok(stream)
}

/// A hundred that say a byte a second of a request, or nothing. Whoever asks meanwhile
/// is answered.
fn slow(at: SocketAddr, is_over: &AtomicBool) -> Result<()> {
    let streams: Result<Vec<_>> = (0..100).map(|_| connect(at)).collect();
    let mut streams = streams?;
    let request = b"GET /metrics HTTP/1.1\r\nX: ".iter();
    for (second, byte) in request.enumerate() {
        // Those that made room for others cannot be written any more.
        for stream in streams.iter_mut().step_by(2) {
            let _ = stream.write(&[*byte]);
        }
        scrape(&at.to_string()).context("a scrape meanwhile")?;
        if second > 1 && is_over.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Requests that are larger than any: they are refused, or answered without being read.
fn oversized(at: SocketAddr, _: &AtomicBool) -> Result<()> {
    const LARGE: usize = 8 << 20;
    let post = "POST /metrics HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n";
    let chunked = "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n";
    for (begin, rest) in [
        ("GET /", "x"),
        ("GET /metrics HTTP/1.1\r\nX: ", "x"),
        ("GET /metrics HTTP/1.1\r\n", "X: x\r\n"),
        (post, "x"),
        (chunked, "x"),
        ("", "\0"),
        ("", "\r\n"),
    ] {
        let mut stream = connect(at)?;
        let rest = rest.repeat((1 << 16) / rest.len());
        let mut sent = stream.write(begin.as_bytes())?;
        // It is closed before long.
        while sent < LARGE {
            match stream.write(rest.as_bytes()) {
                Ok(more) => sent += more,
                Err(_) => break,
            }
        }
        ensure!(sent < LARGE, "{begin:?}: {sent} bytes were taken");
        let mut answer = Vec::new();
        // The answer may be gone with the connection.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let is_fine = answer.is_empty() || answer.starts_with("HTTP/1.1 ");
        ensure!(is_fine, "{begin:?}: {answer}");
    }
    Ok(())
}

/// Two hundred that ask and never read; their sockets have room for little.
fn unread(at: SocketAddr, _: &AtomicBool) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(at)?;
        sys::set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1)?;
        // An error: it had to make room for the next already.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        streams.push(stream);
    }
    Ok(())
}

/// Two thousand connections at once, or as many as are to be had in the time.
fn many(at: SocketAddr, _: &AtomicBool) -> Result<()> {
    let end = Instant::now() + limits::event() / 2;
    let mut streams = Vec::new();
    while streams.len() < 2_000 && Instant::now() < end {
        // One that the listener's queue had no room for is not waited for.
        streams.extend(TcpStream::connect_timeout(&at, Duration::from_millis(50)).ok());
    }
    ensure!(streams.len() > 200, "only {} connections", streams.len());
    Ok(())
}

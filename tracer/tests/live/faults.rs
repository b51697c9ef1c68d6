//! Tracer while things go wrong around it: stopped, killed, short of files and of
//! memory, in a container, beside another tracer, and behind processes that are gone
//! before anybody can look.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::expect::weight;
use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::{self, Tracer, final_totals};
use crate::{bpf, limits, sys};

const DESTINATION: &str = "127.0.0.1:8080";

/// A namespace without a free port.
pub(crate) struct Desert {
    pub(crate) space: Namespace,
    _holder: Role,
}

impl Desert {
    pub(crate) fn new() -> Result<Self> {
        let space = Namespace::new()?;
        space.four_ports()?;
        let holder = Role::start(&space, "holder")?;
        holder.ok(&format!("listener tcp4 {DESTINATION} 64"))?;
        let held = holder.connects("tcp4", 4, DESTINATION)?;
        ensure!(held.begun.len() == 4, "{held:?}");
        Ok(Self {
            space,
            _holder: holder,
        })
    }

    pub(crate) fn role(&self, comm: &str) -> Result<Role> {
        Role::start(&self.space, comm)
    }

    /// What tracer counted here, by its last word.
    fn counted(&self, records: &[Value]) -> Result<u64> {
        let totals = final_totals(records)?;
        let number = |name: &str| totals[name].as_u64().with_context(|| totals.to_string());
        let told = number("described")? + number("summed")?;
        ensure!(number("counted")? == told + number("lost")?, "{totals}");
        let rows = totals["counts"].as_array().into_iter().flatten();
        let own = rows.filter(|row| row["netns"] == self.space.inum);
        Ok(own.filter_map(|row| row["count"].as_u64()).sum())
    }
}

/// Fails `count` times; how often for want of a port, as the program saw it.
pub(crate) fn fail(role: &Role, count: u64) -> Result<u64> {
    let failed = role.ok(&format!("repeat tcp4 {count} {DESTINATION}"))?;
    Ok(u64::try_from(failed)?)
}

/// Nobody reads the ring for ten seconds of a flood: counted exactly nevertheless.
pub(crate) fn stopped(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let role = desert.role("spinner")?;
    let tracer = Tracer::started(path, &[])?;
    let mut failed = fail(&role, 10)?;
    tracer.signal(libc::SIGSTOP)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        failed += fail(&role, 2_000)?;
    }
    tracer.signal(libc::SIGCONT)?;
    failed += fail(&role, 10)?;
    let records = tracer.stop()?;
    let counted = desert.counted(&records)?;
    ensure!(counted == failed, "{failed} failed, {counted} counted");
    let told: u64 = tracer.events_in(desert.space.inum).iter().map(weight).sum();
    ensure!(told == failed, "{told} in events of {failed}");
    // The ring has room for 5,000 or so; only an emulator is slow enough not to fill it.
    let summed = final_totals(&records)?["summed"].as_u64().unwrap_or(0);
    ensure!(
        failed < 20_000 || summed > 0,
        "{failed} failed, and none is in a sum"
    );
    Ok(())
}

/// kill -9: nothing stays in the kernel, and the next start finds nothing in its way.
pub(crate) fn killed(path: &Path) -> Result<()> {
    let before: BTreeSet<u32> = ids()?;
    let tracer = Tracer::started(path, &[])?;
    ensure!(ids()?.difference(&before).count() > 0, "nothing was loaded");
    tracer.signal(libc::SIGKILL)?;
    let status = tracer.ended()?;
    ensure!(!status.success(), "{status}");
    // The kernel frees them when nobody can run them any more.
    limits::until("the last program's end", || {
        Ok(ids()?.difference(&before).count() == 0)
    })?;
    let desert = Desert::new()?;
    let role = desert.role("survivor")?;
    let tracer = Tracer::started(path, &[])?;
    let failed = fail(&role, 3)?;
    let counted = desert.counted(&tracer.stop()?)?;
    ensure!(counted == failed, "{failed} failed, {counted} counted");
    Ok(())
}

fn ids() -> Result<BTreeSet<u32>> {
    let programs = bpf::programs().context("listing programs")?;
    Ok(programs.into_iter().map(|(id, _)| id).collect())
}

/// So many descriptors and no more: whatever cannot be had is told, with the reason.
pub(crate) fn few_files(path: &Path) -> Result<()> {
    for most in [8, 16, 24, 32, 40, 48] {
        let mut command = tracer::command(path);
        let restrict = move || {
            let limit = libc::rlimit {
                rlim_cur: most,
                rlim_max: most,
            };
            // SAFETY: the limit is valid for reading for the whole call.
            sys::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
            Ok(())
        };
        // SAFETY: the closure only calls setrlimit, which is async-signal-safe.
        unsafe { command.pre_exec(restrict) };
        let output = command.args(["--duration", "100ms"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_told = said.contains("Too many open files");
        ensure!(output.status.code().is_some(), "{most}: {output:?}");
        // Whoever needs fewer than these has lost nothing.
        ensure!(output.status.success() || is_told, "{most}: {output:?}");
        ensure!(!said.contains("panicked"), "{most}: {said}");
        ensure!(most > 16 || is_told, "{most} are enough? {output:?}");
    }
    Ok(())
}

/// In a container's pid namespace the kernel's names are all there is, and tracer says so.
pub(crate) fn pid_namespace(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let role = desert.role("outsider")?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(path).args(["watch", "--format", "json"]);
    command.args(["--netns", &desert.space.inum.to_string(), "--count", "1"]);
    let child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let child = match child {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Skip::because("no unshare here (util-linux)"));
        }
        other => other?,
    };
    let pid = i32::try_from(child.id())?;
    let watching = std::thread::spawn(move || child.wait_with_output());
    let failing = limits::until("the first failure's record", || {
        fail(&role, 1)?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(watching.is_finished())
    });
    if failing.is_err() {
        sys::signal(pid, libc::SIGKILL)?;
    }
    let output = watching.join().ok().context("nobody waited")??;
    failing.with_context(|| format!("{output:?}"))?;
    let records = records(&output)?;
    let startup = records.first().context("no startup")?;
    let degradations = startup["degradations"].to_string();
    ensure!(degradations.contains("pid namespace"), "{startup}");
    let event = records.iter().find(|record| record["type"] == "event");
    let process = &event.context("no event")?["process"];
    // The number is the initial namespace's, in which this test is.
    ensure!(
        process["comm"] == "outsider" && process["pid"] == role.pid && process["exe"].is_null(),
        "{process}"
    );
    Ok(())
}

fn records(output: &Output) -> Result<Vec<Value>> {
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

/// A memory limit of 64 MB holds while BTF is read, and under a flood.
pub(crate) fn little_memory(path: &Path) -> Result<()> {
    let group = Limited::new(64 << 20)?;
    let desert = Desert::new()?;
    let role = desert.role("spinner")?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
    command.arg(format!("{}/cgroup.procs", group.0)).arg(path);
    command.args(["watch", "--format", "json", "--duration", "3s"]);
    let child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let watching = std::thread::spawn(move || child.wait_with_output());
    while !watching.is_finished() {
        fail(&role, 2_000)?;
    }
    let output = watching.join().ok().context("nobody waited")??;
    let records = records(&output)?;
    ensure!(desert.counted(&records)? > 0, "nothing was counted");
    Ok(())
}

/// A cgroup with a memory limit, of either version.
struct Limited(String);

impl Limited {
    fn new(bytes: u64) -> Result<Self> {
        const ROOTS: [(&str, &str); 2] = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (root, limit) in ROOTS {
            let group = Self(format!("{root}/tracer-live-memory"));
            if std::fs::create_dir(&group.0).is_ok()
                && std::fs::write(format!("{}/{limit}", group.0), bytes.to_string()).is_ok()
            {
                return Ok(group);
            }
        }
        Err(Skip::because("no cgroup with a memory limit can be had"))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Many namespaces fail in many ways, of processes that are gone at once: all is in the
/// totals, though room is made for it in the kernel side's table.
pub(crate) fn many_namespaces(path: &Path) -> Result<()> {
    const ENTRIES: usize = 4500;
    if limits::in_guest() {
        return Err(Skip::because(
            "an emulator takes minutes for so many namespaces",
        ));
    }
    sys::allow_files()?;
    let tracer = Tracer::started(path, &[])?;
    let mut spaces = Vec::new();
    for _ in 0..ENTRIES / WAYS + 10 {
        let space = Namespace::new()?;
        space.sysctl("net/ipv4/ip_local_port_range", "40000 40000")?;
        space.run(fail_in_all_ways).context("failing in all ways")?;
        spaces.push(space);
    }
    let records = tracer.stop()?;
    let totals = final_totals(&records)?;
    let number = |name: &str| totals[name].as_u64().with_context(|| totals.to_string());
    let (counted, unplaced) = (number("counted")?, number("unplaced")?);
    let rows: Vec<&Value> = totals["counts"].as_array().into_iter().flatten().collect();
    let placed: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    let failed = u64::try_from(spaces.len() * WAYS)?;
    ensure!(
        placed + unplaced == counted && counted >= failed,
        "{placed} placed, {unplaced} not, {counted} counted of {failed}"
    );
    ensure!(unplaced == 0, "{unplaced} unplaced");
    let mut told = 0;
    for space in &spaces {
        told += tracer.events_in(space.inum).iter().map(weight).sum::<u64>();
    }
    let lost = number("lost")?;
    ensure!(told + lost >= failed, "{told} told and {lost} lost");
    Ok(())
}

/// What a namespace counts after [`fail_in_all_ways`].
const WAYS: usize = 6;

/// Fails once for each of six pairs of kind and cause, where 40000 is the only port.
fn fail_in_all_ways() -> Result<()> {
    let address = |text: &str| -> Result<SocketAddr> { Ok(text.parse()?) };
    let socket = || -> Result<i32> {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        Ok(fd)
    };
    let fails = |result: std::io::Result<i32>, errno: i32| {
        let seen = result.err().and_then(|error| error.raw_os_error());
        ensure!(seen == Some(errno), "{seen:?} instead of {errno}");
        Ok(())
    };
    let mut open = Vec::new();
    let mut next = || -> Result<i32> {
        open.push(socket()?);
        open.last().copied().context("no socket")
    };
    let (taken, server) = (address("0.0.0.0:40000")?, address("127.0.0.1:8080")?);
    let listener = next()?;
    let rival = next()?;
    for fd in [listener, rival] {
        sys::bind(fd, &server)?;
    }
    sys::listen(listener, 8)?;
    fails(sys::listen(rival, 8), libc::EADDRINUSE)?;
    let (first, second) = (next()?, next()?);
    for fd in [first, second] {
        sys::bind(fd, &address("127.0.0.1:5000")?)?;
    }
    sys::connect(first, &server)?;
    fails(sys::connect(second, &server), libc::EADDRNOTAVAIL)?;
    let holder = next()?;
    sys::bind(holder, &taken)?;
    sys::listen(holder, 1)?;
    fails(sys::connect(next()?, &server), libc::EADDRNOTAVAIL)?;
    fails(sys::bind(next()?, &taken), libc::EADDRINUSE)?;
    fails(sys::bind(next()?, &address("0.0.0.0:0")?), libc::EADDRINUSE)?;
    fails(
        sys::bind(next()?, &address("192.0.2.1:9")?),
        libc::EADDRNOTAVAIL,
    )?;
    for fd in open {
        sys::close(fd)?;
    }
    Ok(())
}

/// Two at once, by the same hooks: each counts all.
pub(crate) fn two(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let role = desert.role("twice")?;
    let first = Tracer::started(path, &[])?;
    let mut failed = fail(&role, 5)?;
    let second = Tracer::started(path, &[])?;
    let for_both = fail(&role, 5)?;
    failed += for_both;
    let by_second = desert.counted(&second.stop()?)?;
    failed += fail(&role, 5)?;
    let by_first = desert.counted(&first.stop()?)?;
    ensure!(
        (by_first, by_second) == (failed, for_both),
        "{by_first} of {failed}, {by_second} of {for_both}"
    );
    Ok(())
}

/// Thousands of processes a second, each of which fails once and is gone: all are named.
pub(crate) fn churn(path: &Path) -> Result<()> {
    /// Of each of two parents: a little more than 5,000 a second in all.
    const RATE: u32 = 2_750;
    // An emulator makes a few hundred a second.
    let each = if limits::in_guest() { 250 } else { 10_000 };
    let desert = Desert::new()?;
    let roles = [desert.role("parent-one")?, desert.role("parent-two")?];
    let tracer = Tracer::started(path, &[])?;
    let order = format!("churn short-lived tcp4 {each} {RATE} {DESTINATION}");
    let begun = Instant::now();
    let pids = std::thread::scope(|scope| {
        let order = &order;
        let ask = |role: Role| scope.spawn(move || role.ask(order));
        let asked = roles.map(ask);
        asked.map(|asked| asked.join().ok().context("a parent is gone")?)
    });
    let seconds = begun.elapsed().as_secs_f64();
    let mut failed = Vec::new();
    for told in pids {
        for pid in told?.split_whitespace() {
            failed.push(pid.parse::<u64>()?);
        }
    }
    ensure!(failed.len() == 2 * each, "{} failed", failed.len());
    let records = tracer.stop()?;
    let counted = desert.counted(&records)?;
    ensure!(counted == failed.len() as u64, "{counted} counted");
    let mut told: Vec<u64> = tracer
        .events_in(desert.space.inum)
        .iter()
        .filter(|event| event["process"]["comm"] == "short-lived" && weight(event) == 1)
        .filter_map(|event| event["process"]["pid"].as_u64())
        .collect();
    told.sort_unstable();
    failed.sort_unstable();
    let named = told
        .iter()
        .filter(|pid| failed.binary_search(pid).is_ok())
        .count();
    crate::say::remark(&format!(
        "{named} of {} short-lived processes named, {:.0} a second",
        failed.len(),
        failed.len() as f64 / seconds
    ));
    ensure!(named * 1000 >= failed.len() * 999, "{named} named");
    let lost = final_totals(&records)?["lost"].as_u64().unwrap_or(0);
    let others = u64::try_from(failed.len() - named)?;
    ensure!(others <= lost, "{others} not named, but {lost} lost");
    Ok(())
}

/// A processor goes, and comes back: nothing is missed on either.
pub(crate) fn processor_gone(path: &Path) -> Result<()> {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    ensure_guest()?;
    let desert = Desert::new()?;
    let role = desert.role("anywhere")?;
    let tracer = Tracer::started(path, &[])?;
    let mut failed = fail(&role, 100)?;
    for state in ["0", "1"] {
        std::fs::write(ONLINE, state).context(ONLINE)?;
        failed += fail(&role, 100)?;
    }
    let counted = desert.counted(&tracer.stop()?)?;
    ensure!(counted == failed, "{failed} failed, {counted} counted");
    // And one that was away when tracer began.
    std::fs::write(ONLINE, "0")?;
    let begun = Tracer::started(path, &[]);
    std::fs::write(ONLINE, "1")?;
    let tracer = begun?;
    let mut failed = 0;
    for _ in 0..20 {
        // A new process each time, so that both processors get some.
        failed += fail(&desert.role("anywhere")?, 20)?;
    }
    let counted = desert.counted(&tracer.stop()?)?;
    ensure!(counted == failed, "{failed} failed, {counted} counted");
    Ok(())
}

/// The clock is set an hour ahead: what fails after that is told in the new time.
pub(crate) fn clock_stepped(path: &Path) -> Result<()> {
    ensure_guest()?;
    let desert = Desert::new()?;
    let role = desert.role("in-time")?;
    let tracer = Tracer::started(path, &["--interval", "200ms"])?;
    fail(&role, 1)?;
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    sys::set_clock(now()? + Duration::from_secs(3600))?;
    let stepped = now()?;
    std::thread::sleep(Duration::from_secs(3));
    fail(&role, 1)?;
    let seen = tracer.await_events(desert.space.inum, |events| events.len() == 2);
    let records = tracer.stop()?;
    sys::set_clock(now()? - Duration::from_secs(3600))?;
    ensure!(
        seen,
        "two failures, but {:?}",
        tracer.events_in(desert.space.inum)
    );
    let told = tracer.events_in(desert.space.inum);
    let second: jiff::Timestamp = told[1]["time"].as_str().unwrap_or_default().parse()?;
    let after = second.as_second() - i64::try_from(stepped.as_secs())?;
    ensure!(
        (2..60).contains(&after),
        "{after} s after the clock was set: {told:?}"
    );
    ensure!(desert.counted(&records)? == 2);
    Ok(())
}

/// What nobody does to a host that others use.
fn ensure_guest() -> Result<()> {
    match limits::in_guest() {
        true => Ok(()),
        false => Err(Skip::because("only in a machine of its own")),
    }
}

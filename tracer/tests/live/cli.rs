//! tracer as a command: arguments, exit codes, its end, what it leaves behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::netns::Namespace;
use crate::role::Role;
use crate::tracer::{self, Tracer};
use crate::{
    boot, bpf, census, cost, export, fair, family, faults, guest, hostile, limits, metrics, readme,
    record, replay, report, say, snapshot, surroundings, trust, verify, who,
};

/// A test of the command line.
pub(crate) struct CliTest {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Path) -> Result<()>,
}

pub(crate) const ALL: &[CliTest] = &[
    CliTest {
        name: "cli/cost",
        run: cost::of_tiers,
    },
    CliTest {
        name: "cli/bad-flag",
        run: bad_flag,
    },
    CliTest {
        name: "cli/bad-number",
        run: bad_number,
    },
    CliTest {
        name: "cli/not-root",
        run: not_root,
    },
    CliTest {
        name: "cli/no-closers",
        run: no_closers,
    },
    CliTest {
        name: "cli/no-btf",
        run: no_btf,
    },
    CliTest {
        name: "cli/duration",
        run: duration,
    },
    CliTest {
        name: "cli/interval",
        run: interval,
    },
    CliTest {
        name: "cli/count",
        run: count,
    },
    CliTest {
        name: "cli/pid",
        run: pid,
    },
    CliTest {
        name: "cli/text",
        run: text,
    },
    CliTest {
        name: "cli/command",
        run: command,
    },
    CliTest {
        name: "cli/command-missing",
        run: command_missing,
    },
    CliTest {
        name: "cli/interrupt",
        run: |tracer| ends_by_signal(tracer, libc::SIGINT),
    },
    CliTest {
        name: "cli/terminate",
        run: |tracer| ends_by_signal(tracer, libc::SIGTERM),
    },
    CliTest {
        name: "cli/nothing-left-loaded",
        run: nothing_left,
    },
    CliTest {
        name: "cli/stdout-closed-early",
        run: stdout_closed,
    },
    CliTest {
        name: "cli/ports",
        run: snapshot::ports,
    },
    CliTest {
        name: "cli/ports-like-ss",
        run: snapshot::ports_like_ss,
    },
    CliTest {
        name: "cli/listeners",
        run: snapshot::listeners,
    },
    CliTest {
        name: "cli/listeners-like-ss",
        run: snapshot::listeners_like_ss,
    },
    CliTest {
        name: "cli/snapshot-text",
        run: snapshot::text,
    },
    CliTest {
        name: "cli/snapshot-not-root",
        run: snapshot::not_root,
    },
    CliTest {
        name: "cli/snapshot-stdout-closed",
        run: snapshot::stdout_closed,
    },
    CliTest {
        name: "cli/namespaces-again",
        run: who::again,
    },
    CliTest {
        name: "cli/quiet-process",
        run: fair::processes,
    },
    CliTest {
        name: "cli/quiet-listener",
        run: fair::listeners,
    },
    CliTest {
        name: "cli/ended-by-icmp",
        run: fair::ended_by_icmp,
    },
    CliTest {
        name: "cli/too-many-listeners",
        run: fair::too_many,
    },
    CliTest {
        name: "cli/replay",
        run: replay::all,
    },
    CliTest {
        name: "cli/replay-like-watch",
        run: replay::like_watch,
    },
    CliTest {
        name: "cli/report",
        run: report::all,
    },
    CliTest {
        name: "cli/export",
        run: export::all,
    },
    CliTest {
        name: "cli/export-files",
        run: export::files,
    },
    CliTest {
        name: "cli/export-full-disk",
        run: export::full_disk,
    },
    CliTest {
        name: "cli/export-stdout-closed",
        run: export::stdout_closed,
    },
    CliTest {
        name: "cli/replay-damaged",
        run: replay::damaged,
    },
    CliTest {
        name: "cli/replay-stdout-closed",
        run: replay::stdout_closed,
    },
    CliTest {
        name: "cli/record",
        run: record::record,
    },
    CliTest {
        name: "cli/record-watch",
        run: record::watch,
    },
    CliTest {
        name: "cli/record-stdout",
        run: record::stdout,
    },
    CliTest {
        name: "cli/record-refuses",
        run: record::refuses,
    },
    CliTest {
        name: "cli/record-rotates",
        run: record::rotates,
    },
    CliTest {
        name: "cli/record-full-disk",
        run: record::full_disk,
    },
    CliTest {
        name: "cli/record-vanished",
        run: record::vanished,
    },
    CliTest {
        name: "cli/record-killed",
        run: record::killed,
    },
    CliTest {
        name: "cli/record-reported",
        run: record::reported,
    },
    CliTest {
        name: "cli/record-reported-in-turn",
        run: record::reported_in_turn,
    },
    CliTest {
        name: "cli/selftest",
        run: trust::selftest,
    },
    CliTest {
        name: "cli/selftest-interrupted",
        run: trust::selftest_interrupted,
    },
    CliTest {
        name: "cli/selftest-not-root",
        run: trust::selftest_not_root,
    },
    CliTest {
        name: "cli/doctor",
        run: trust::doctor,
    },
    CliTest {
        name: "cli/privileges",
        run: trust::privileges,
    },
    CliTest {
        name: "cli/privileges-counters",
        run: trust::counters_without_privileges,
    },
    CliTest {
        name: "cli/privileges-command",
        run: trust::command_keeps_privileges,
    },
    CliTest {
        name: "cli/privileges-capture",
        run: trust::capture_elsewhere,
    },
    CliTest {
        name: "cli/who-contained",
        run: who::contained,
    },
    CliTest {
        name: "cli/who-was-asked-for",
        run: who::filters,
    },
    CliTest {
        name: "cli/who-in-kernel",
        run: who::in_kernel,
    },
    CliTest {
        name: "cli/who-command",
        run: family::tree,
    },
    CliTest {
        name: "cli/who-namespace",
        run: who::namespace,
    },
    CliTest {
        name: "cli/who-nobody",
        run: who::nobody,
    },
    CliTest {
        name: "cli/who-renamed",
        run: who::renamed,
    },
    CliTest {
        name: "cli/who-drops",
        run: who::drops,
    },
    CliTest {
        name: "cli/boot",
        run: boot::as_booted,
    },
    CliTest {
        name: "cli/fault-stopped",
        run: faults::stopped,
    },
    CliTest {
        name: "cli/fault-killed",
        run: faults::killed,
    },
    CliTest {
        name: "cli/fault-few-files",
        run: faults::few_files,
    },
    CliTest {
        name: "cli/fault-pid-namespace",
        run: faults::pid_namespace,
    },
    CliTest {
        name: "cli/fault-little-memory",
        run: faults::little_memory,
    },
    CliTest {
        name: "cli/fault-many-namespaces",
        run: faults::many_namespaces,
    },
    CliTest {
        name: "cli/fault-two",
        run: faults::two,
    },
    CliTest {
        name: "cli/fault-churn",
        run: faults::churn,
    },
    CliTest {
        name: "cli/fault-processor-gone",
        run: faults::processor_gone,
    },
    CliTest {
        name: "cli/fault-clock-stepped",
        run: faults::clock_stepped,
    },
    CliTest {
        name: "cli/fault-hidden-proc",
        run: surroundings::hidden_proc,
    },
    CliTest {
        name: "cli/fault-time-namespace",
        run: surroundings::time_namespace,
    },
    CliTest {
        name: "cli/fault-one-capability",
        run: surroundings::one_capability,
    },
    CliTest {
        name: "cli/fault-not-known",
        run: surroundings::not_known,
    },
    CliTest {
        name: "cli/fault-read-only",
        run: surroundings::read_only,
    },
    CliTest {
        name: "cli/fault-old-cgroups",
        run: surroundings::old_cgroups,
    },
    CliTest {
        name: "cli/fault-no-ipv6",
        run: surroundings::no_ipv6,
    },
    CliTest {
        name: "cli/fault-bpf-forbidden",
        run: surroundings::bpf_forbidden,
    },
    CliTest {
        name: "cli/fault-unprivileged-bpf",
        run: surroundings::unprivileged_bpf,
    },
    CliTest {
        name: "cli/hostile-names",
        run: hostile::names,
    },
    CliTest {
        name: "cli/hostile-mount",
        run: hostile::mount,
    },
    CliTest {
        name: "cli/metrics",
        run: metrics::all,
    },
    CliTest {
        name: "cli/metrics-crowd",
        run: metrics::crowd::all,
    },
    CliTest {
        name: "cli/verify-unseen",
        run: verify::unseen,
    },
    CliTest {
        name: "cli/verify-not",
        run: verify::not_verified,
    },
    CliTest {
        name: "cli/verify-cut-short",
        run: verify::cut_short,
    },
    CliTest {
        name: "cli/verify-beside",
        run: verify::beside,
    },
    CliTest {
        name: "cli/verify-imposter",
        run: verify::imposter,
    },
    CliTest {
        name: "cli/verify-broken-hook",
        run: verify::broken,
    },
    CliTest {
        name: "cli/readme",
        run: readme::every_command,
    },
];

/// Whether a test may end differently on another kernel; the others are about arguments,
/// files, pipes, names and words.
pub(crate) fn kernel_has_a_part(name: &str) -> bool {
    const YES: &[&str] = &[
        "cli/boot",
        "cli/doctor",
        "cli/listeners",
        "cli/listeners-like-ss",
        "cli/no-btf",
        "cli/no-closers",
        "cli/nothing-left-loaded",
        "cli/ports",
        "cli/ports-like-ss",
        "cli/privileges",
        "cli/selftest",
        "cli/snapshot-not-root",
        "cli/verify-beside",
        "cli/verify-broken-hook",
        "cli/verify-unseen",
        "cli/who-command",
        "cli/who-drops",
    ];
    YES.contains(&name)
}

/// Runs it to its end.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run tracer")?;
    let end = Instant::now() + limits::attach();
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            let output = child.wait_with_output()?;
            bail!(
                "it did not end: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

/// It must end with `code` and say why on stderr, in one line when `one_line`; what it said.
pub(crate) fn refuses(command: &mut Command, code: i32, one_line: bool) -> Result<String> {
    let output = output(command)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "expected exit code {code}, got {}; stderr: {stderr}",
        output.status
    );
    ensure!(
        output.stdout.is_empty(),
        "a refusal wrote to stdout: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let lines = stderr.lines().count();
    ensure!(
        lines >= 1 && (!one_line || lines == 1),
        "expected one line on stderr, got {lines}: {stderr}"
    );
    Ok(stderr.into_owned())
}

fn bad_flag(path: &Path) -> Result<()> {
    refuses(tracer::command(path).arg("--no-such-flag"), 2, true).map(|_| ())
}

fn bad_number(path: &Path) -> Result<()> {
    for arguments in [
        ["--count", "many"],
        ["--count", "-1"],
        ["--duration", "10 parsecs"],
        ["--interval", "x"],
        ["--pid", "self"],
        ["--dst", "10.0.0.0/33"],
        ["--kind", "drops"],
        ["--hooks", "magic"],
    ] {
        refuses(tracer::command(path).args(arguments), 2, true)
            .with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// A place that every user can reach: build directories often are not.
pub(crate) struct PublicCopy(pub(crate) PathBuf);

impl PublicCopy {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let target = PathBuf::from(format!("/tmp/tracer-live-{}", std::process::id()));
        std::fs::copy(path, &target).context("copying tracer")?;
        Ok(Self(target))
    }
}

impl Drop for PublicCopy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn not_root(path: &Path) -> Result<()> {
    let copy = PublicCopy::of(path)?;
    refuses(tracer::command(&copy.0).uid(65534).gid(65534), 3, true).map(|_| ())
}

fn no_btf(path: &Path) -> Result<()> {
    let mut command = tracer::command(path);
    hide_btf(&mut command);
    refuses(&mut command, 4, true).map(|_| ())
}

/// An empty /sys/kernel/btf for this command, in a mount namespace of its own.
pub(crate) fn hide_btf(command: &mut Command) {
    let hide = || {
        // SAFETY: between fork and exec there is one thread, whose mounts become private.
        crate::sys::check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        guest::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)?;
        guest::mount("none", "/sys/kernel/btf", "tmpfs", 0)
    };
    // SAFETY: the harness holds no lock that the few allocations in the closure need:
    // it forks from its main thread, and its other threads only wait.
    unsafe { command.pre_exec(hide) };
}

fn ended_with(records: &[Value], reason: &str) -> Result<()> {
    tracer::final_totals(records)?;
    let last = records.last().context("no record at all")?;
    ensure!(
        last["type"] == "end" && last["reason"] == reason && last["exit_code"].is_number(),
        "expected an end record with reason {reason}, got {last}"
    );
    Ok(())
}

fn code_of(tracer: &Tracer, code: i32) -> Result<()> {
    let status = tracer.ended()?;
    ensure!(
        status.code() == Some(code),
        "expected exit code {code}, got {status}; stderr: {}",
        tracer.stderr()
    );
    Ok(())
}

fn duration(path: &Path) -> Result<()> {
    let tracer = Tracer::started(path, &["--duration", "300ms"])?;
    code_of(&tracer, 0)?;
    ended_with(&tracer.records(), "duration")
}

fn interval(path: &Path) -> Result<()> {
    let tracer = Tracer::started(path, &["--interval", "100ms"])?;
    tracer.await_record(|record| record["type"] == "totals" && record["final"] == false)?;
    ended_with(&tracer.stop()?, "interrupted")
}

/// A namespace without a single free port, for failures on demand. (connect(), because
/// every tier of every kernel sees that.)
pub(crate) struct Desert {
    pub(crate) space: Namespace,
    _hoarder: Role,
}

pub(crate) const NOWHERE: &str = "127.0.0.1:9";

impl Desert {
    pub(crate) fn new() -> Result<Self> {
        let space = Namespace::new()?;
        space.four_ports()?;
        let hoarder = Role::start(&space, "port-hoarder")?;
        for _ in 0..4 {
            let fd = hoarder.ok("socket tcp4")?;
            hoarder.ok(&format!("bind {fd} 0.0.0.0:0"))?;
        }
        Ok(Self {
            space,
            _hoarder: hoarder,
        })
    }

    pub(crate) fn role(&self, comm: &str) -> Result<Role> {
        Role::start(&self.space, comm)
    }
}

pub(crate) fn fail_once(role: &Role) -> Result<()> {
    let fd = role.ok("socket tcp4")?;
    role.fails(&format!("connect {fd} {NOWHERE}"), libc::EADDRNOTAVAIL)?;
    role.ok(&format!("close {fd}"))?;
    Ok(())
}

fn count(path: &Path) -> Result<()> {
    let tracer = Tracer::started(path, &["--count", "1"])?;
    let desert = Desert::new()?;
    fail_once(&desert.role("single-failure")?)?;
    code_of(&tracer, 0)?;
    ended_with(&tracer.records(), "count")
}

/// Without closers nobody knows who made a `TIME_WAIT` socket, and that is said.
fn no_closers(path: &Path) -> Result<()> {
    let space = Namespace::new()?;
    space.sysctl("net/ipv4/ip_local_port_range", "40000 40001")?;
    let both = Role::start(&space, "visitor")?;
    let listener = both.ok("listener tcp4 127.0.0.1:8080 16")?;
    let tracer = Tracer::started(path, &["--no-closers"])?;
    ensure!(tracer.hook("closer").0 == "none", "closers are watched");
    for _ in 0..2 {
        let near = both.ok("socket tcp4")?;
        both.ok(&format!("connect {near} 127.0.0.1:8080"))?;
        let far = both.ok(&format!("accept {listener}"))?;
        both.ok(&format!("close {near}"))?;
        both.ok(&format!("close {far}"))?;
    }
    let fd = both.ok("socket tcp4")?;
    both.fails(&format!("connect {fd} 127.0.0.1:8080"), libc::EADDRNOTAVAIL)?;
    let census = tracer.await_record(|record| record["type"] == "census")?;
    tracer.stop()?;
    census::adds_up(&census)?;
    let holder = &census["parts"][0]["holders"][0];
    ensure!(
        holder["owner"] == "unknown" && holder["reason"] == "nobody watched who closed it",
        "somebody is named: {census}"
    );
    Ok(())
}

fn pid(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let (wanted, other) = (desert.role("wanted")?, desert.role("unwanted")?);
    let tracer = Tracer::started(path, &["--pid", &wanted.pid.to_string()])?;
    fail_once(&other)?;
    fail_once(&wanted)?;
    let told = |event: &Value| event["process"]["pid"] == wanted.pid;
    tracer.await_events(desert.space.inum, |events| events.iter().any(told));
    tracer.stop()?;
    let events = tracer.events_in(desert.space.inum);
    ensure!(
        events.len() == 1 && events.iter().all(told),
        "expected one event, of pid {}: {events:?}",
        wanted.pid
    );
    Ok(())
}

/// The text names process, pid and address, and who has the ports. Nothing tells when it is attached, so the
/// failure is repeated until it is told.
fn text(path: &Path) -> Result<()> {
    let desert = Desert::new()?;
    let role = desert.role("told-in-text")?;
    let mut child = tracer::command(path)
        .args(["--format", "text", "--count", "1"])
        .args(["--pid", &role.pid.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let end = Instant::now() + limits::attach();
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("no failure was told");
        }
        fail_once(&role)?;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let (pid, culprit) = (role.pid.to_string(), "bound, not used");
    let census = ["census 1: 4 ports (40000-40003)", culprit, "port-hoarder["];
    for word in [&*role.comm, &pid, NOWHERE].into_iter().chain(census) {
        ensure!(told.contains(word), "the text lacks {word}: {told}");
    }
    Ok(())
}

/// The command is this program in another role: a guest has no shell.
fn command(path: &Path) -> Result<()> {
    let own = std::env::current_exe()?;
    let own = own.to_str().context("our own path is not UTF-8")?;
    for (code, role) in [(7, "exit"), (128 + libc::SIGTERM, "die")] {
        let (number, kill) = (code.to_string(), libc::SIGTERM.to_string());
        let argument = if role == "exit" { &number } else { &kill };
        let tracer = Tracer::started(path, &["--", own, "--role", role, argument])?;
        code_of(&tracer, code)?;
        let records = tracer.records();
        ended_with(&records, "command_exited")?;
        ensure!(
            records.last().is_some_and(|end| end["exit_code"] == code),
            "the end record has another exit code: {records:?}"
        );
    }
    Ok(())
}

fn command_missing(path: &Path) -> Result<()> {
    let output = output(tracer::command(path).args(["--", "/no/such/command"]))?;
    ensure!(
        output.status.code() == Some(127),
        "expected exit code 127, got {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn ends_by_signal(path: &Path, signal: i32) -> Result<()> {
    let tracer = Tracer::started(path, &[])?;
    tracer.signal(signal)?;
    code_of(&tracer, 0)?;
    ended_with(&tracer.records(), "interrupted")
}

/// Programs by id: names alone would not tell another tracer's from ours.
fn nothing_left(path: &Path) -> Result<()> {
    let before = bpf::programs().context("listing programs")?;
    let tracer = Tracer::started(path, &[])?;
    let during = bpf::programs()?;
    ensure!(
        during.len() > before.len(),
        "tracer runs without any program loaded"
    );
    tracer.stop()?;
    // The kernel frees programs a moment after their last user is gone.
    let end = Instant::now() + limits::event();
    loop {
        let left: Vec<_> = bpf::programs()?
            .into_iter()
            .filter(|program| !before.contains(program))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "still loaded: {left:?}");
        std::thread::yield_now();
    }
}

/// Like `tracer watch | head -1`.
fn stdout_closed(path: &Path) -> Result<()> {
    let mut child = tracer::command(path)
        .args(["--format", "json", "--interval", "50ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let desert = Desert::new()?;
    let role = desert.role("unheard")?;
    let end = Instant::now() + limits::attach();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("it goes on without a reader");
        }
        fail_once(&role)?;
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let mut stderr = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut stderr)?;
    }
    ensure!(
        status.code() != Some(101) && !stderr.contains("panicked"),
        "it panicked ({status}): {}",
        say::flat(&stderr)
    );
    Ok(())
}

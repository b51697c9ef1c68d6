//! Tracer on hosts that hide, lack or forbid something: other users' processes, file
//! systems, cgroup2, tracefs, IPv6, bpf(2).

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::case::Skip;
use crate::cli::{Desert, PublicCopy, fail_once, output, refuses};
use crate::netns::Namespace;
use crate::record::Directory;
use crate::role::Role;
use crate::tracer::{self, Start, Tracer};
use crate::trust::{ADMIN, PTRACE, diagnosis, level};
use crate::{guest, limits, sys};

const JSON: [&str; 2] = ["--format", "json"];

/// Has `command` see the mounts that `change` makes, alone.
fn with_mounts(command: &mut Command, change: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
    let change = move || {
        // SAFETY: between fork and exec there is one thread, whose mounts become private.
        sys::check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        guest::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)?;
        change()
    };
    // SAFETY: the harness holds no lock that the few allocations in the closure need:
    // it forks from its main thread, and its other threads only wait.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, change) };
}

/// Has `command` run as nobody, with all capabilities but these.
fn without(command: &mut Command, missing: u64) {
    // SAFETY: the closure makes system calls only.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, move || sys::be_nobody(missing))
    };
}

/// What no kernel has a part in; an emulator takes a minute for it.
fn needs_speed() -> Result<()> {
    match limits::in_guest() {
        false => Ok(()),
        true => Err(Skip::because("the same on every kernel, and slow here")),
    }
}

fn started(command: Command) -> Result<Tracer> {
    match Tracer::of(command)? {
        Start::Ready(tracer) => Ok(*tracer),
        Start::Refused(code, why) => anyhow::bail!("tracer ended at once with {code:?}: {why}"),
    }
}

/// What doctor finds under the same conditions.
fn doctor(path: &Path, prepare: impl Fn(&mut Command)) -> Result<Value> {
    let mut command = tracer::verb(path, "doctor");
    prepare(&mut command);
    diagnosis(&output(command.args(JSON))?)
}

fn expect_level(object: &Value, name: &str, wanted: &str, words: &str) -> Result<()> {
    let (level, found) = level(object, name)?;
    let fits = level == wanted && found.contains(words);
    ensure!(fits, "{name}: {level}, {found}");
    Ok(())
}

fn has_degradation(tracer: &Tracer, words: &str) -> bool {
    tracer.startup["degradations"].to_string().contains(words)
}

/// The one failure of `role`, as a tracer told it that is over.
fn failure(tracer: &Tracer, desert: &Desert, role: &Role) -> Result<Value> {
    fail_once(role)?;
    tracer.await_events(desert.space.inum, |events| !events.is_empty());
    tracer.stop()?;
    let events = tracer.events_in(desert.space.inum);
    let [event] = &events[..] else {
        anyhow::bail!("one event was to come: {events:?}");
    };
    let process = &event["process"];
    let is_named = process["comm"] == *role.comm && process["pid"] == role.pid;
    ensure!(is_named, "{event}");
    Ok(event.clone())
}

/// hidepid=2: nothing for who has CAP_SYS_PTRACE; else only the kernel's names are left,
/// and that is said.
pub(crate) fn hidden_proc(path: &Path) -> Result<()> {
    const SAYS: &str = "/proc hides other users' processes";
    needs_speed()?;
    let copy = PublicCopy::of(path)?;
    let desert = Desert::new()?;
    let role = desert.role("hidden")?;
    let hide = |command: &mut Command| {
        with_mounts(command, || {
            guest::mount_with("proc", "/proc", "proc", 0, "hidepid=2")
        });
    };
    let hide_from_nobody = |command: &mut Command| {
        hide(command);
        without(command, PTRACE);
    };
    let mut command = tracer::command(&copy.0);
    hide(&mut command);
    let tracer = started(command)?;
    ensure!(!has_degradation(&tracer, SAYS), "{}", tracer.startup);
    let event = failure(&tracer, &desert, &role)?;
    ensure!(event["process"]["exe"].is_string(), "{event}");
    let mut command = tracer::command(&copy.0);
    hide_from_nobody(&mut command);
    let tracer = started(command)?;
    ensure!(has_degradation(&tracer, SAYS), "{}", tracer.startup);
    let event = failure(&tracer, &desert, &role)?;
    ensure!(event["process"]["exe"].is_null(), "{event}");
    expect_level(&doctor(&copy.0, hide)?, "hidepid", "ok", "")?;
    let object = doctor(&copy.0, hide_from_nobody)?;
    expect_level(&object, "hidepid", "costs", "")?;
    ensure!(object.to_string().contains(SAYS), "{object}");
    Ok(())
}

/// Nothing may be written anywhere: only a capture cannot be had, which is said at once.
pub(crate) fn read_only(path: &Path) -> Result<()> {
    needs_speed()?;
    let directory = Directory::in_memory("1m")?;
    let place = directory.path.to_str().context("not UTF-8")?.to_owned();
    let forbid = |command: &mut Command| {
        let place = place.clone();
        with_mounts(command, move || {
            for target in ["/", &place] {
                let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
                guest::mount("none", target, "none", flags)?;
            }
            Ok(())
        });
    };
    for file in [directory.path.join("x.zst"), PathBuf::from("/x.zst")] {
        let mut command = tracer::verb(path, "record");
        forbid(&mut command);
        let said = refuses(command.arg("-w").arg(&file), 1, true)?;
        ensure!(said.contains("Read-only file system"), "{said}");
    }
    let desert = Desert::new()?;
    let role = desert.role("unwritten")?;
    let mut command = tracer::command(path);
    forbid(&mut command);
    failure(&started(command)?, &desert, &role)?;
    let usual = doctor(path, |_| {})?;
    let object = doctor(path, forbid)?;
    ensure!(object["exit_code"] == usual["exit_code"], "{object}");
    Ok(())
}

/// Of a container that there is not.
const ID: &str = "5d1c0ffee0123456789abcdef0123456789abcdef0123456789abcdef0123456";

/// A hierarchy of cgroups version 1 without a controller, as systemd has one where there
/// is no version 2.
struct OldHierarchy {
    directory: Directory,
    name: String,
}

impl OldHierarchy {
    fn new() -> Result<Self> {
        let hierarchy = Self {
            directory: Directory::new()?,
            name: format!("tracer-live-{}", std::process::id()),
        };
        hierarchy.mount().context("cgroup v1")?;
        std::fs::create_dir_all(hierarchy.group())?;
        Ok(hierarchy)
    }

    fn mount(&self) -> Result<()> {
        let path = self.directory.path.to_str().context("not UTF-8")?;
        let mounted = guest::mount_with("none", path, "cgroup", 0, &self.options());
        match mounted {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                Err(Skip::because("this kernel has no cgroup v1"))
            }
            other => Ok(other?),
        }
    }

    fn options(&self) -> String {
        format!("none,name={}", self.name)
    }

    fn group(&self) -> PathBuf {
        self.directory.path.join("docker").join(ID)
    }

    /// The kernel forgets a hierarchy when it is unmounted and the last group is gone,
    /// for which it takes its time.
    fn end(&self) -> Result<()> {
        let group = self.group();
        limits::until("the end of a cgroup", || {
            Ok(std::fs::remove_dir(&group).is_ok() || !group.exists())
        })?;
        std::fs::remove_dir(group.with_file_name(""))?;
        guest::unmount(&self.directory.path)?;
        let is_known = || -> Result<bool> {
            let own = std::fs::read_to_string("/proc/self/cgroup")?;
            Ok(own.contains(&self.name))
        };
        limits::until("the end of a hierarchy", || {
            if limits::soon(|| Ok(!is_known()?))? {
                return Ok(true);
            }
            // Its group was not quite gone.
            self.mount()?;
            guest::unmount(&self.directory.path)?;
            Ok(false)
        })
    }
}

/// cgroup version 1 alone, and no tracefs: tracer mounts what it needs for itself, or
/// says that it may not; containers have their names.
pub(crate) fn old_cgroups(path: &Path) -> Result<()> {
    const SAYS: &str = "is not mounted, and mounting it failed";
    let copy = PublicCopy::of(path)?;
    let hierarchy = OldHierarchy::new()?;
    let told = (|| {
        let desert = Desert::new()?;
        let role = desert.role("contained")?;
        role.ok(&format!(
            "join {}/cgroup.procs",
            hierarchy.group().display()
        ))?;
        let options = hierarchy.options();
        let old = |command: &mut Command| {
            let options = options.clone();
            with_mounts(command, move || only_old_cgroups(&options));
        };
        let usual = started(tracer::command(&copy.0))?;
        let mut command = tracer::command(&copy.0);
        old(&mut command);
        let tracer = started(command)?;
        let hooks = |tracer: &Tracer| tracer.startup["hooks"].to_string();
        ensure!(hooks(&tracer) == hooks(&usual), "{}", tracer.startup);
        usual.stop()?;
        let event = failure(&tracer, &desert, &role)?;
        let container = &event["process"]["container"];
        ensure!(
            container["id"] == ID && container["runtime"] == "docker",
            "{event}"
        );
        let object = doctor(&copy.0, old)?;
        for name in ["cgroup2", "tracefs"] {
            expect_level(&object, name, "ok", "tracer mounts it for itself")?;
        }
        let forbidden = |command: &mut Command| {
            old(command);
            without(command, ADMIN);
        };
        let object = doctor(&copy.0, forbidden)?;
        for name in ["cgroup2", "tracefs"] {
            expect_level(&object, name, "costs", "tracer may not mount it")?;
        }
        let mut command = tracer::command(&copy.0);
        forbidden(&mut command);
        match Tracer::of(command)? {
            Start::Ready(tracer) => {
                ensure!(has_degradation(&tracer, SAYS), "{}", tracer.startup);
            }
            Start::Refused(code, why) => ensure!(code == Some(4), "{code:?}: {why}"),
        }
        Ok(())
    })();
    hierarchy.end()?;
    told
}

/// In a mount namespace of our own: as on a host that was set up long ago.
fn only_old_cgroups(options: &str) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let is_new = |line: &&str| {
        [" - cgroup2 ", " - tracefs ", " - debugfs "]
            .iter()
            .any(|kind| line.contains(kind))
    };
    for line in mounts.lines().filter(is_new) {
        let point = CString::new(line.split(' ').nth(4).unwrap_or_default())?;
        // SAFETY: a live C string. What was mounted below another is gone with that.
        unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
    }
    guest::mount("none", "/sys/fs/cgroup", "tmpfs", 0)?;
    std::fs::create_dir("/sys/fs/cgroup/systemd")?;
    guest::mount_with("none", "/sys/fs/cgroup/systemd", "cgroup", 0, options)
}

/// disable_ipv6: what fails for that is told as it is, and IPv4 has everything.
pub(crate) fn no_ipv6(path: &Path) -> Result<()> {
    let space = Namespace::new()?;
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Err(Skip::because("this kernel has no IPv6"));
    }
    space.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    let role = Role::start(&space, "old-school")?;
    let tracer = Tracer::started(path, &[])?;
    let fd = role.ok("socket tcp6")?;
    role.fails(&format!("connect {fd} [::1]:80"), libc::EADDRNOTAVAIL)?;
    let fd = role.ok("socket tcp6")?;
    role.fails(&format!("bind {fd} [::1]:8080"), libc::EADDRNOTAVAIL)?;
    // As most servers do; IPv4 comes to it.
    role.ok("listener tcp6 [::]:8080 4")?;
    space.four_ports()?;
    let held = role.connects("tcp4", 5, "127.0.0.1:8080")?;
    ensure!(held.failed == [libc::EADDRNOTAVAIL], "{held:?}");
    tracer.await_events(space.inum, |events| events.len() == 3);
    tracer.stop()?;
    let events = tracer.events_in(space.inum);
    let told: Vec<_> = events
        .iter()
        .map(|event| (&event["kind"], &event["cause"]))
        .collect();
    let mut wanted = vec![
        ("bind_failed", "address_not_local"),
        ("connect_failed", "ports_exhausted"),
    ];
    // Not every tier sees it.
    if tracer.hook("connect_v6_source").0 != "none" {
        wanted.insert(0, ("connect_failed", "no_source_address"));
    }
    let is_same = told.len() == wanted.len()
        && told
            .iter()
            .zip(&wanted)
            .all(|(told, wanted)| *told.0 == wanted.0 && *told.1 == wanted.1);
    ensure!(is_same, "{told:?} instead of {wanted:?}");
    Ok(())
}

/// Whatever `kernel.unprivileged_bpf_disabled` is, also when nothing is kept.
pub(crate) fn unprivileged_bpf(path: &Path) -> Result<()> {
    const FILE: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
    if !limits::in_guest() {
        return Err(Skip::because("only in a machine of its own"));
    }
    let desert = Desert::new()?;
    let role = desert.role("unprivileged")?;
    // It is 2 for all other tests, and nothing changes it once it is 1.
    for value in ["0", "1"] {
        std::fs::write(FILE, value).with_context(|| format!("{FILE}: {value}"))?;
        failure(&Tracer::started(path, &["--drop-all"])?, &desert, &role)?;
    }
    let object = doctor(path, |_| {})?;
    expect_level(&object, "unprivileged_bpf_disabled", "ok", "1")?;
    Ok(())
}

/// seccomp forbids bpf(2), as runtimes of containers do.
pub(crate) fn bpf_forbidden(path: &Path) -> Result<()> {
    needs_speed()?;
    let forbid = |command: &mut Command| {
        // SAFETY: the closure makes system calls only.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(command, || {
                sys::forbid_call(libc::SYS_bpf)
            })
        };
    };
    let mut command = tracer::command(path);
    forbid(&mut command);
    let said = refuses(&mut command, 3, true)?;
    ensure!(said.contains("seccomp"), "{said}");
    let object = doctor(path, forbid)?;
    let stopped = object["stopped"].as_str().unwrap_or_default();
    ensure!(
        object["exit_code"] == 3 && stopped.contains("seccomp"),
        "{object}"
    );
    Ok(())
}

/// Clocks of a time namespace are off; events are dated right, and processes are found by
/// their start times.
pub(crate) fn time_namespace(path: &Path) -> Result<()> {
    if limits::in_guest() || !Path::new("/proc/self/ns/time").exists() {
        return Err(Skip::because("needs unshare(1) and time namespaces"));
    }
    let desert = Desert::new()?;
    let role = desert.role("on-time")?;
    let inside = |verb: &str| {
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", "86400", "--monotonic", "3600"]);
        command.args(["--fork", "--kill-child"]).arg(path).arg(verb);
        command.stdin(std::process::Stdio::null());
        command
    };
    let mut command = inside("watch");
    command.args(["--netns", &desert.space.inum.to_string()]);
    command.args(["--count", "1", "--duration", "20s"]);
    let tracer = started(command)?;
    fail_once(&role)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    ensure!(tracer.ended()?.success(), "{}", tracer.stderr());
    let events = tracer.events_in(desert.space.inum);
    let [event] = &events[..] else {
        anyhow::bail!("one event was to come: {events:?}");
    };
    // Right to the day, and to the minute: what the caller saw, by the caller's clock.
    let off = seconds(event["time"].as_str().unwrap_or_default())?.abs_diff(now.as_secs());
    ensure!(off < 60, "off by {off} s: {event}");
    ensure!(event["process"]["exe"].is_string(), "{event}");
    // As the kernel counts, not as the namespace does.
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    let boottime = tracer.startup["clock"]["boottime"].as_f64().unwrap_or(0.0) / 1e9;
    ensure!((boottime - uptime).abs() < 600.0, "{boottime} {uptime}");
    let object = diagnosis(&output(inside("doctor").args(JSON))?)?;
    expect_level(&object, "time_namespace", "ok", "+86400 s")
}

/// CAP_SYS_ADMIN alone attaches what CAP_NET_ADMIN is for: no loss is claimed that is none,
/// and what may not be read is not called missing.
pub(crate) fn one_capability(path: &Path) -> Result<()> {
    const CLIENTS: usize = 6;
    needs_speed()?;
    let copy = PublicCopy::of(path)?;
    let alone = |command: &mut Command| without(command, !ADMIN);
    let mut command = tracer::command(&copy.0);
    alone(&mut command);
    command.args(["--hooks", "portable"]);
    let tracer = started(command)?;
    let degradations = tracer.startup["degradations"].to_string();
    let claims = degradations.contains("cgroup_skb cannot be attached");
    let is_seen = tracer.hook("syn_drop").0 == "portable";
    ensure!(is_seen && !claims, "{}", tracer.startup);
    // It does see drops: as many as the kernel counts.
    let space = Namespace::new()?;
    let server = Role::start(&space, "full")?;
    server.ok("listener tcp4 127.0.0.1:8080 0")?;
    let client = Role::start(&space, "client")?;
    client.connects("tcp4", CLIENTS, "127.0.0.1:8080")?;
    let is_told = tracer.await_events(space.inum, |events| !events.is_empty());
    let drops = crate::counters::Counters::read(&space)?.listen_drops;
    ensure!(is_told && drops > 0, "{drops} drops, and none was told");
    let records = tracer.stop()?;
    ensure!(
        !degradations.contains("tracefs not found"),
        "{degradations}"
    );
    let (tier, _, reason) = tracer.hook("bind");
    let is_refused = reason.contains("cannot be read: Permission denied");
    ensure!(tier != "none" || is_refused, "{tier}: {reason}");
    ensure!(!records.is_empty(), "no records");
    let object = doctor(&copy.0, alone)?;
    expect_level(&object, "CAP_NET_ADMIN", "ok", "")?;
    expect_level(&object, "CAP_SYS_PTRACE", "costs", "tried, and refused")?;
    expect_level(
        &object,
        "CAP_DAC_READ_SEARCH",
        "costs",
        "tried, and refused",
    )
}

/// What cannot be found out is not called ok.
pub(crate) fn not_known(path: &Path) -> Result<()> {
    needs_speed()?;
    let bare = |command: &mut Command| {
        with_mounts(command, || {
            guest::mount("none", "/sys/kernel/security", "tmpfs", 0)
        });
    };
    let object = doctor(path, bare)?;
    for name in ["lockdown", "security_modules"] {
        expect_level(
            &object,
            name,
            "unknown",
            "not known: securityfs is not mounted",
        )?;
    }
    let text = object["text"].as_str().unwrap_or_default();
    ensure!(text.contains("not known"), "{text}");
    Ok(())
}

/// Seconds since the epoch of `2026-01-31T03:00:00.000000Z`, as date(1) has it.
fn seconds(time: &str) -> Result<u64> {
    let output = output(Command::new("date").args(["-u", "+%s", "-d", time]))?;
    let text = String::from_utf8(output.stdout)?;
    text.trim()
        .parse()
        .with_context(|| format!("{time}: {text}"))
}

//! Where a case is staged: two network namespaces, a wire between them, and the
//! programs that run there. All of it is gone when the lab is dropped.

use super::Skip;
use crate::place::{self, Place};
use crate::{run, say};
use anyhow::{Context as _, Result, bail, ensure};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What joins the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// A veth pair.
    Short,
    /// Two TUN devices and a program that holds every packet for 50 ms.
    Long,
}

const WIRE_PROGRAM: &str = include_str!("scripts/wire.py");

/// Names of namespaces: this, the pid of their maker, the side.
const PREFIX: &str = "tracer-case-";

/// How long a program may take to be ready, or to end.
const LIMIT: Duration = Duration::from_secs(10);

/// One of the two namespaces.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) namespace: String,
    /// Its address on the wire.
    pub(super) ip: &'static str,
    /// As tracer's `netns`.
    pub(super) netns: u64,
}

/// A program that runs until the lab ends it.
#[derive(Debug)]
struct Program {
    name: String,
    child: Child,
}

/// How a program ended that was waited for.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) pid: u32,
    pub(super) success: bool,
    /// What it wrote, to stdout and stderr.
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Lab {
    /// Configurations and logs of the programs.
    pub(super) directory: PathBuf,
    pub(super) client: Side,
    pub(super) server: Side,
    tracer: PathBuf,
    programs: RefCell<Vec<Program>>,
    /// What tracer said besides `tracer watch`, for the page.
    aside: RefCell<String>,
}

impl Lab {
    pub(super) fn new(place: &Place, tracer: &Path, wire: Wire) -> Result<Self> {
        let directory = directories(place).join(std::process::id().to_string());
        place::renew(&directory)?;
        let lab = Self {
            directory,
            client: Side::new("client", "10.82.0.1")?,
            server: Side::new("server", "10.82.0.2")?,
            tracer: tracer.to_owned(),
            programs: RefCell::default(),
            aside: RefCell::default(),
        };
        match wire {
            Wire::Short => lab.veth()?,
            Wire::Long => lab.long_wire()?,
        }
        Ok(lab)
    }

    fn veth(&self) -> Result<()> {
        let (client, server) = (&self.client, &self.server);
        client.ip(
            &[
                "link", "add", "wire", "type", "veth", "peer", "wire", "netns",
            ],
            &[&server.namespace],
        )?;
        for side in [client, server] {
            side.ip(
                &["addr", "add", "dev", "wire"],
                &[&format!("{}/24", side.ip)],
            )?;
            side.ip(&["link", "set", "wire", "up"], &[])?;
        }
        Ok(())
    }

    fn long_wire(&self) -> Result<()> {
        if !Path::new("/dev/net/tun").exists() {
            return Err(Skip("this machine has no /dev/net/tun".to_owned()).into());
        }
        let (client, server) = (&self.client, &self.server);
        let program = self.script("wire", WIRE_PROGRAM)?;
        self.start(client, &program, &["near", "far"])?;
        until("two TUN devices", || {
            Ok(client.has_device("near") && client.has_device("far"))
        })?;
        client.ip(&["link", "set", "far", "netns"], &[&server.namespace])?;
        for (side, device) in [(client, "near"), (server, "far")] {
            side.ip(
                &["addr", "add", "dev", device],
                &[&format!("{}/24", side.ip)],
            )?;
            side.ip(&["link", "set", device, "up"], &[])?;
        }
        Ok(())
    }

    /// tracer itself.
    pub(super) fn tracer(&self) -> &Path {
        &self.tracer
    }

    /// Asks tracer once; what it says on stdout.
    pub(super) fn ask_tracer(&self, words: &[&str]) -> Result<String> {
        run::capture(Command::new(&self.tracer).args(words))
    }

    /// Adds to what the page shows below `tracer watch`.
    pub(super) fn add_aside(&self, text: &str) {
        self.aside.borrow_mut().push_str(text);
    }

    pub(super) fn aside(&self) -> String {
        self.aside.borrow().clone()
    }

    /// Writes a file into the lab's directory.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A program of our own: the kernel names its process after the file.
    pub(super) fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Starts a program that runs until the lab ends; its pid.
    pub(super) fn start(
        &self,
        side: &Side,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<u32> {
        let child = self.spawn(side, program, arguments)?;
        let pid = child.id();
        self.programs.borrow_mut().push(Program {
            name: name_of(program),
            child,
        });
        Ok(pid)
    }

    /// Ends a program that was started.
    pub(super) fn stop(&self, pid: u32) -> Result<()> {
        let mut programs = self.programs.borrow_mut();
        let at = programs
            .iter()
            .position(|program| program.child.id() == pid)
            .with_context(|| format!("process {pid} was not started here"))?;
        programs.remove(at).end()
    }

    /// Runs a program to its end.
    pub(super) fn run(
        &self,
        side: &Side,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        limit: Duration,
    ) -> Result<Finished> {
        let mut child = self.spawn(side, program, arguments)?;
        let name = name_of(program);
        let status = run::wait_at_most(&mut child, limit)?;
        let text = self.log(&name)?;
        let Some(status) = status else {
            bail!(
                "{name} did not end within {} s: {}",
                limit.as_secs(),
                last_line(&text)
            );
        };
        Ok(Finished {
            pid: child.id(),
            success: status.success(),
            text,
        })
    }

    /// What a program of this name has written so far.
    pub(super) fn log(&self, name: &str) -> Result<String> {
        let path = self.directory.join(format!("{name}.log"));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until a program's log has this text.
    pub(super) fn await_log(&self, name: &str, text: &str) -> Result<()> {
        until(&format!("`{text}` from {name}"), || {
            Ok(self.log(name)?.contains(text))
        })
        .with_context(|| last_line(&self.log(name).unwrap_or_default()))
    }

    fn spawn(&self, side: &Side, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<Child> {
        let path = self.directory.join(format!("{}.log", name_of(program)));
        let log = File::options().create(true).append(true).open(&path)?;
        let mut command = side.command(program);
        command.args(arguments).stdout(log.try_clone()?).stderr(log);
        run::spawn(&mut command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        while let Some(program) = self.programs.get_mut().pop() {
            let name = program.name.clone();
            if let Err(error) = program.end() {
                say::note(&format!("{name}: {error:#}"));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Program {
    fn end(mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            signal("TERM", self.child.id())?;
            // A process that was stopped takes the signal only when it goes on.
            signal("CONT", self.child.id())?;
        }
        ensure!(
            run::wait_at_most(&mut self.child, LIMIT)?.is_some(),
            "had to be killed"
        );
        Ok(())
    }
}

impl Side {
    fn new(name: &str, ip: &'static str) -> Result<Self> {
        let namespace = format!("{PREFIX}{}-{name}", std::process::id());
        run::capture(Command::new("ip").args(["netns", "add", &namespace]))?;
        let mut side = Self {
            namespace,
            ip,
            netns: 0,
        };
        side.netns = fs::metadata(side.handle())?.ino();
        side.ip(&["link", "set", "lo", "up"], &[])?;
        Ok(side)
    }

    fn handle(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    fn ip(&self, words: &[&str], more: &[&str]) -> Result<()> {
        run::capture(
            Command::new("ip")
                .args(["-n", &self.namespace])
                .args(words)
                .args(more),
        )
        .map(|_| ())
    }

    fn has_device(&self, device: &str) -> bool {
        self.ip(&["link", "show", "dev", device], &[]).is_ok()
    }

    /// A command inside. It keeps its pid and dies with this process.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.handle().display()))
            .args(["setpriv", "--pdeathsig", "TERM"])
            .arg(program);
        command
    }

    /// Writes a sysctl of this namespace (path below /proc/sys).
    pub(super) fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        run::capture(self.command(Path::new("sh")).args([
            "-c",
            "echo \"$1\" > \"/proc/sys/$0\"",
            path,
            value,
        ]))
        .map(|_| ())
    }

    /// Leaves connect() and bind(0) this many ports, from 40000 on.
    pub(super) fn ports(&self, count: u64) -> Result<()> {
        self.sysctl(
            "net/ipv4/ip_local_port_range",
            &format!("40000 {}", 39_999 + count),
        )
    }

    /// How many sockets `ss -tan` shows with this filter.
    pub(super) fn sockets(&self, filter: &[&str]) -> Result<u64> {
        let text = run::capture(
            Command::new("ss")
                .args(["-N", &self.namespace, "-Htan"])
                .args(filter),
        )?;
        Ok(text.lines().count().try_into()?)
    }

    /// A counter of this namespace's /proc/net/netstat.
    pub(super) fn counter(&self, name: &str) -> Result<u64> {
        let text = run::capture(self.command(Path::new("cat")).arg("/proc/net/netstat"))?;
        counter(&text, name).with_context(|| format!("/proc/net/netstat has no {name}"))
    }

    /// Waits until something listens on a port.
    pub(super) fn await_listener(&self, port: u16) -> Result<()> {
        let filter = format!("sport = :{port}");
        until(&format!("a listener on port {port}"), || {
            Ok(self.sockets(&["state", "listening", &filter])? > 0)
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = run::capture(Command::new("ip").args(["netns", "del", &self.namespace]));
    }
}

/// Removes what runs that were killed have left. Their programs died with them.
pub(super) fn remove_stale(place: &Place) {
    let is_gone = |pid: &str| !Path::new("/proc").join(pid).exists();
    for name in names_in(Path::new("/run/netns")) {
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if maker.is_some_and(is_gone) {
            let _ = run::capture(Command::new("ip").args(["netns", "del", &name]));
        }
    }
    let labs = directories(place);
    for pid in names_in(&labs).filter(|pid| is_gone(pid)) {
        let _ = fs::remove_dir_all(labs.join(pid));
    }
}

/// Each lab has a directory there, named after the pid of its maker.
fn directories(place: &Place) -> PathBuf {
    place.cache.join("cases")
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Sends a signal by its name.
pub(crate) fn signal(name: &str, pid: u32) -> Result<()> {
    let pid = pid.to_string();
    run::capture(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])).map(|_| ())
}

/// Waits until `ready`, but not for ever.
pub(super) fn until(what: &str, ready: impl Fn() -> Result<bool>) -> Result<()> {
    until_at_most(LIMIT, what, ready)
}

/// The same with another limit.
pub(super) fn until_at_most(
    limit: Duration,
    what: &str,
    ready: impl Fn() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !ready()? {
        ensure!(Instant::now() < deadline, "{what}: waited for in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn name_of(program: &Path) -> String {
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// The file has pairs of lines: names, then values.
fn counter(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks_exact(2).find_map(|pair| {
        let [names, values] = pair else { return None };
        let at = names.split_whitespace().position(|word| word == name)?;
        values.split_whitespace().nth(at)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 1 7\nIpExt: InOctets\nIpExt: 9\n";
        assert_eq!(counter(text, "ListenDrops"), Some(7));
        assert_eq!(counter(text, "InOctets"), Some(9));
        assert_eq!(counter(text, "OutOctets"), None);
    }
}

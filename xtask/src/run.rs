//! How other programs are run: their failures become sentences.

use crate::say;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a command whose output the user sees; fails when it does.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = start(command.stdin(Stdio::null()).spawn(), command)?
        .wait()
        .with_context(|| format!("cannot wait for {}", name(command)))?;
    succeeded(status, command, "")
}

/// Runs a command and returns what it wrote to stdout; shows its stderr only when it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    succeeded(
        output.status,
        command,
        &String::from_utf8_lossy(&output.stderr),
    )?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command and returns all it did, success or not.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", name(command)))
}

/// Decompresses a file with `program`; the name needs no suffix that tells how.
pub(crate) fn filter(program: &str, file: &Path) -> Result<Output> {
    let input = std::fs::File::open(file).with_context(|| file.display().to_string())?;
    Command::new(program)
        .arg("-dc")
        .stdin(input)
        .output()
        .with_context(|| format!("cannot run {program}"))
}

/// Starts a command that reads from nothing.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    start(command.stdin(Stdio::null()).spawn(), command)
}

/// Waits at most `limit`, then kills the child; `None` when it had to.
pub(crate) fn wait_at_most(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a program of this name is found through PATH.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Whether this process may do everything (tracing needs it).
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user: no libc needed for one number.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A command that runs `program` as root, through sudo if need be.
pub(crate) fn as_root(program: &Path) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !exists("sudo") {
        bail!(
            "{} has to run as root, and there is no sudo here: run this command again as root",
            program.display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Installs Debian packages when one of the programs they bring is missing.
pub(crate) fn need_programs(programs: &[(&str, &str)]) -> Result<()> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !exists(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !exists("apt-get") {
        bail!("this needs {list}, and there is no apt-get to install it: install it by hand");
    }
    say::note(&format!("installing {list} with apt-get"));
    let install = || -> Result<()> {
        let output = output(
            as_root(Path::new("apt-get"))?
                .args(["install", "-qq", "-y", "--no-install-recommends"])
                .args(&packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
        if !output.status.success() {
            bail!(
                "apt-get install {list} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    };
    // The lists may be absent (a fresh container) or old: refresh them only then.
    install().or_else(|_| {
        check(as_root(Path::new("apt-get"))?.args(["update", "-qq"]))?;
        install()
    })
}

/// The command as a user would type it.
pub(crate) fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

fn start(child: std::io::Result<Child>, command: &Command) -> Result<Child> {
    child.with_context(|| format!("cannot run {}", name(command)))
}

/// Makes a failure a sentence.
pub(crate) fn succeeded(status: ExitStatus, command: &Command, stderr: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let stderr = stderr.trim();
    let colon = if stderr.is_empty() { "" } else { ": " };
    bail!("{} failed ({status}){colon}{stderr}", name(command));
}

//! `xtask dist --check`: does what users download work where nothing else is?
//!
//! Packed again, it has the same bytes; lintian has no errors to tell; it installs in
//! a new Debian 12; and that Debian, booted, runs `tracer doctor`, `tracer selftest`
//! and the service, with systemd and all the service's restrictions.

use super::{Parts, SUMS, deb_name, directory, pack, parts, tree};
use crate::cases::{self, Telling};
use crate::initramfs::Initramfs;
use crate::kernels::{self, Kernel};
use crate::live::{self, Run, Verdict};
use crate::place::{self, Place};
use crate::vm::{self, Guest};
use crate::{debian, run, say};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The word with which this program runs itself as root.
pub(crate) const INSIDE: &str = "dist-inside";

/// What the machine runs.
pub(crate) const KERNEL: &str = "6.12";

const SUITE: &str = "bookworm";

/// Beyond the least there is: man pages are looked for, and it is booted.
const PACKAGES: &str = "--include=kmod,man-db,systemd-sysv";

/// Whole paths: `sbin` is not in every PATH.
const DEBOOTSTRAP: &str = "/usr/sbin/debootstrap";
const LINTIAN: &str = "/usr/bin/lintian";
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// systemd's judgement of the unit, times ten; less is better.
const EXPOSURE: &str = "--threshold=30";

/// What runs in the machine, and the unit that runs it.
const GUEST: &str = include_str!("guest.sh");
const UNIT: &str = include_str!("guest.service");

/// systemd takes its time in an emulator.
const PATIENCE: Duration = Duration::from_secs(300);

/// Checks what `build` packs.
pub(crate) fn run(place: &Place, kernels: &[Kernel]) -> Result<Run> {
    let parts = parts(place)?;
    pack(place, &parts, &place.cache.join("dist"), &directory(place))?;
    let Some(kernel) = kernels.iter().find(|kernel| kernel.series == KERNEL) else {
        bail!("there is no kernel {KERNEL} to be had");
    };
    say::note(&format!("installing it, and booting {}", kernel.release));
    let epoch = parts.epoch.to_string();
    let words = [
        OsStr::new(INSIDE),
        parts.program.as_os_str(),
        parts.manual.as_os_str(),
        OsStr::new(&epoch),
    ];
    cases::as_root(place, "dist", &words)
}

/// The part that runs as root: a line for each check, in the words of the live tests.
pub(crate) fn inside(place: &Place, words: &[&str]) -> Result<bool> {
    let [program, manual, epoch] = words else {
        bail!("{INSIDE} needs to know what is packed");
    };
    let parts = Parts {
        program: program.into(),
        manual: manual.into(),
        epoch: epoch.parse()?,
    };
    run::need_programs(&[(DEBOOTSTRAP, "debootstrap"), (LINTIAN, "lintian")])?;
    let scratch = place.cache.join("dist-check");
    place::renew(&scratch)?;
    let mut telling = Telling::default();
    let mut tell = |name: &str, outcome: &dyn Fn() -> Result<()>| {
        let start = Instant::now();
        telling.tell(&format!("dist/{name}"), start, outcome());
    };
    let root = scratch.join("root");
    tell("same-bytes", &|| same_bytes(place, &parts, &scratch));
    tell("lintian", &|| lintian(place));
    tell("installs", &|| installs(place, &root));
    tell("unit", &|| unit(&root));
    tell("archive", &|| archive(place, &scratch));
    machine(place, &scratch, &root, &mut telling);
    let start = Instant::now();
    telling.tell("dist/leaves", start, leaves(&root));
    fs::remove_dir_all(&scratch)?;
    Ok(telling.sum_up())
}

/// Packing is no matter of when, of where, or of who does it.
fn same_bytes(place: &Place, parts: &Parts, scratch: &Path) -> Result<()> {
    let again = scratch.join("again");
    pack(place, parts, &scratch.join("dist"), &again)?;
    let sums = |directory: &Path| fs::read_to_string(directory.join(SUMS));
    let (first, second) = (sums(&directory(place))?, sums(&again)?);
    ensure!(first == second, "first {first}, then {second}");
    Ok(())
}

fn lintian(place: &Place) -> Result<()> {
    let output = run::output(
        Command::new(LINTIAN)
            .args(["--allow-root", "--fail-on", "error"])
            .arg(directory(place).join(deb_name())),
    )?;
    let said = String::from_utf8_lossy(&output.stdout);
    say::note(&format!("lintian: {}", said.trim()));
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// A Debian with nothing in it, and the package.
fn installs(place: &Place, root: &Path) -> Result<()> {
    let base = base(place)?;
    place::renew(root)?;
    run::capture(
        Command::new("tar")
            .args(["--extract", "--numeric-owner", "--file"])
            .arg(base)
            .arg("--directory")
            .arg(root),
    )?;
    fs::copy(directory(place).join(deb_name()), root.join("tracer.deb"))?;
    let said = within(root, &["dpkg", "--install", "/tracer.deb"])?;
    ensure!(!said.contains("warning"), "{said}");
    let version = within(root, &["tracer", "--version"])?;
    ensure!(version.trim() == format!("tracer {}", super::VERSION));
    for name in ["tracer", "tracer-watch", "tracer-record", "tracer-report"] {
        within(root, &["man", "-w", name])?;
        let page = within(root, &["man", "--encoding=ascii", name])?;
        ensure!(page.contains("SYNOPSIS"), "man {name}: {page}");
    }
    for completions in [
        "bash-completion/completions/tracer",
        "fish/vendor_completions.d/tracer.fish",
        "zsh/vendor-completions/_tracer",
    ] {
        let text = fs::read_to_string(root.join("usr/share").join(completions))?;
        ensure!(text.contains("selftest"), "{completions}");
    }
    // Asked as the shell asks, after `tracer rep`.
    let script = "source /usr/share/bash-completion/completions/tracer; \
        COMP_WORDS=(tracer rep) COMP_CWORD=1; _tracer tracer rep tracer; echo ${COMPREPLY[@]}";
    let offered = within(root, &["bash", "-c", script])?;
    ensure!(offered.trim() == "replay report", "{offered}");
    Ok(())
}

/// The service waits to be wanted, and systemd finds little to object to.
fn unit(root: &Path) -> Result<()> {
    let output = run::output(&mut chroot(
        root,
        &["systemctl", "is-enabled", "tracer-record"],
    ))?;
    let enabled = String::from_utf8_lossy(&output.stdout);
    ensure!(enabled.trim() == "disabled", "{enabled}");
    let path = "/usr/lib/systemd/system/tracer-record.service";
    let analyze = ["systemd-analyze", "security", "--offline=true", EXPOSURE];
    let said = within(root, &[&analyze[..], &[path]].concat())?;
    let verdict = said.lines().last().unwrap_or_default();
    say::note(verdict.trim_start_matches(|c: char| !c.is_ascii_alphabetic()));
    Ok(())
}

/// The archive has what the package has, but for what is Debian's.
fn archive(place: &Place, scratch: &Path) -> Result<()> {
    let tar = fs::read_dir(directory(place))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension() == Some(OsStr::new("gz")))
        .context("there is none")?;
    let to = scratch.join("archive");
    place::renew(&to)?;
    run::capture(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(&tar)
            .arg("--directory")
            .arg(&to),
    )?;
    run::capture(Command::new(to.join("bin/tracer")).arg("--version"))?;
    let sums = fs::read_to_string(directory(place).join(SUMS))?;
    ensure!(sums.lines().count() == 3, "{sums}");
    run::capture(
        Command::new("sha256sum")
            .args(["--check", "--strict", SUMS])
            .current_dir(directory(place)),
    )?;
    Ok(())
}

/// Boots what was installed, and tells what it tells.
fn machine(place: &Place, scratch: &Path, root: &Path, telling: &mut Telling) {
    let start = Instant::now();
    let console = boot(place, scratch, root);
    let run = console.map(|console| Run::read(KERNEL, &console, live::exit_code(&console)));
    match run {
        Err(error) => telling.tell("dist/machine", start, Err(error)),
        Ok(run) => {
            for outcome in run.outcomes {
                let verdict = match outcome.verdict {
                    Verdict::Passed | Verdict::PassedAgain => Ok(()),
                    Verdict::Failed | Verdict::Skipped => Err(anyhow!(outcome.detail)),
                };
                telling.tell(&outcome.scenario, start, verdict);
            }
            for problem in run.problems {
                telling.tell("dist/machine", start, Err(anyhow!(problem)));
            }
        }
    }
}

fn boot(place: &Place, scratch: &Path, root: &Path) -> Result<String> {
    vm::need_emulator()?;
    let kernels = kernels::fetch(place, &[KERNEL.to_owned()])?;
    let kernel = kernels.usable.first().context("there is no kernel")?;
    let mut initramfs = Initramfs::default();
    initramfs.tree(root)?;
    // The kernel opens it for init before anything can be mounted.
    initramfs.character_device("dev/console", 5, 1);
    initramfs.link("init", "lib/systemd/systemd");
    initramfs.program("guest.sh", GUEST.as_bytes());
    initramfs.file("etc/systemd/system/guest.service", UNIT.as_bytes());
    initramfs.directory("modules");
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        initramfs.file(&format!("modules/{name}"), &fs::read(module)?);
        order.push_str(&format!("/modules/{name}\n"));
    }
    initramfs.file("modules.order", order.as_bytes());
    let path = scratch.join("machine.cpio");
    fs::write(&path, initramfs.finish())?;
    let log = place.cache.join("dist.console");
    let guest = Guest {
        kernel,
        initramfs: &path,
        append: "quiet systemd.unit=guest.service systemd.show_status=0",
        memory: "3G",
        patience: PATIENCE,
        log: &log,
    };
    let console = vm::boot(&guest)?;
    if console.lines().any(live::has_begun) {
        return Ok(console);
    }
    // The emulator, not the kernel, loses a boot now and then.
    say::note("the machine said nothing, once more");
    vm::boot(&guest)
}

/// Removed, it leaves nothing behind.
fn leaves(root: &Path) -> Result<()> {
    within(root, &["dpkg", "--purge", "tracer"])?;
    let left: Vec<PathBuf> = tree::files(&root.join("usr"))?
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("tracer"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A new Debian, kept as an archive.
fn base(place: &Place) -> Result<PathBuf> {
    let base = place.cache.join("debian-12.tar");
    if base.is_file() {
        return Ok(base);
    }
    let new = place.cache.join("debian-12.new");
    place::renew(&new)?;
    say::note("making a Debian 12 with debootstrap (kept as target/xtask/debian-12.tar)");
    let log = place.cache.join("debootstrap.log");
    let status = Command::new(DEBOOTSTRAP)
        .args(["--variant=minbase", PACKAGES, SUITE])
        .arg(&new)
        .arg(debian::archive()?)
        .env("PATH", SYSTEM_PATH)
        .stdout(File::create(&log)?)
        .status()
        .context("cannot run debootstrap")?;
    ensure!(status.success(), "debootstrap failed: {}", log.display());
    let unfinished = place.cache.join("debian-12.tar.new");
    run::capture(
        Command::new("tar")
            .args(["--create", "--numeric-owner", "--one-file-system", "--file"])
            .arg(&unfinished)
            .arg("--directory")
            .arg(&new)
            .arg("."),
    )?;
    fs::remove_dir_all(&new)?;
    // Last, so that an interrupted run leaves nothing that looks whole.
    fs::rename(&unfinished, &base)?;
    Ok(base)
}

/// Runs a command in there, and returns what it said.
fn within(root: &Path, words: &[&str]) -> Result<String> {
    run::capture(&mut chroot(root, words))
}

fn chroot(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("/usr/sbin/chroot");
    command
        .arg(root)
        .args(words)
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

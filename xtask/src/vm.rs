//! `xtask vm`: the live tests on other kernels, each in a virtual machine.

use crate::binaries::Binaries;
use crate::initramfs::Initramfs;
use crate::kernels::Kernel;
use crate::live::{self, Run};
use crate::place::Place;
use crate::{run, say};
use anyhow::{Context as _, Result};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// From power-on to the first word of init; a boot takes about five seconds.
const BOOT_PATIENCE: Duration = Duration::from_secs(90);

/// For all scenarios on all tiers.
const RUN_PATIENCE: Duration = Duration::from_secs(1500);

/// From the last word of init to power-off.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// How many machines run at a time: on two cores three were no faster in all, four
/// were slower, and a slow machine makes races of its own.
const AT_A_TIME: usize = 2;

const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// The kernel on which every test runs in which a kernel has a part; the others leave
/// more out. It attaches fastest under emulation.
pub(crate) const IN_FULL: &str = "6.12";

/// Machines beyond one a kernel: the kernel, words for it, and what of the live tests.
/// Without such words Debian's kernels have AppArmor.
const BOOTS: [(&str, &[&str], &str); 3] = [
    // And no security module but those that cannot be switched off.
    (IN_FULL, &["ipv6.disable=1", "lsm="], "cli/boot"),
    (
        IN_FULL,
        &["lockdown=integrity", "security=selinux", "selinux=1"],
        "cli/boot",
    ),
    (IN_FULL, &["lockdown=confidentiality"], "cli/boot"),
];

/// Runs the live tests on every kernel. What was asked for: `arguments` for the tests,
/// and `words` for the kernels.
pub(crate) fn matrix(
    place: &Place,
    kernels: &[Kernel],
    binaries: &Binaries,
    arguments: &[String],
    words: &[String],
) -> Result<Vec<Run>> {
    need_emulator()?;
    let directory = place.cache.join("vm");
    fs::create_dir_all(&directory)?;
    let machines = machines(&directory, kernels, arguments, words);
    let queue = Mutex::new(machines.iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let Some((index, machine)) = next else {
                        return;
                    };
                    let run = machine.judge(binaries);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, run));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, run)| run).collect())
}

/// Installs the emulator if it is missing.
pub(crate) fn need_emulator() -> Result<()> {
    run::need_programs(&[QEMU])
}

/// What is booted: a kernel, in a way, to do something.
struct Machine<'a> {
    /// As the table names it.
    name: String,
    /// Where its files are.
    directory: &'a Path,
    kernel: &'a Kernel,
    words: Vec<String>,
    arguments: Vec<String>,
}

/// One for each kernel; and if nothing else was asked for, those of [`BOOTS`].
fn machines<'a>(
    directory: &'a Path,
    kernels: &'a [Kernel],
    arguments: &[String],
    words: &[String],
) -> Vec<Machine<'a>> {
    let machine = |kernel: &'a Kernel, words: &[String], arguments: &[String]| Machine {
        name: [slice::from_ref(&kernel.series), words].concat().join(" "),
        directory,
        kernel,
        words: words.to_vec(),
        arguments: arguments.to_vec(),
    };
    let is_all = arguments.is_empty() && words.is_empty();
    let [of_kernel, brief] = ["--of-kernel", "--brief"].map(|word| [word.to_owned()]);
    let each = kernels.iter().map(|kernel| match is_all {
        true if kernel.series == IN_FULL => machine(kernel, &[], &of_kernel),
        true => machine(kernel, &[], &brief),
        false => machine(kernel, words, arguments),
    });
    let booted = BOOTS.iter().filter(|_| is_all);
    let booted = booted.filter_map(|(series, words, filter)| {
        let kernel = kernels.iter().find(|kernel| kernel.series == *series)?;
        let arguments = ["--tier", "auto", "--filter", filter].map(str::to_owned);
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Some(machine(kernel, &words, &arguments))
    });
    let mut machines: Vec<_> = each.chain(booted).collect();
    // What takes longest begins first, so that nothing else waits for it at the end.
    machines.sort_by_key(|machine| machine.name != IN_FULL);
    machines
}

/// A machine's file.
fn file(directory: &Path, name: &str, what: &str) -> PathBuf {
    let name = name.replace([' ', '/'], "+");
    directory.join(format!("{name}.{what}"))
}

/// Where the last words are of a machine with this kernel and this word.
pub(crate) fn console(place: &Place, series: &str, word: &str) -> PathBuf {
    let name = format!("{series} {word}");
    file(&place.cache.join("vm"), &name, "console")
}

impl Machine<'_> {
    /// Pack, boot, read, report.
    fn judge(&self, binaries: &Binaries) -> Run {
        let start = Instant::now();
        let name = &self.name;
        say::note(&format!("vm {name}: booting {}", self.kernel.release));
        let run = self.pack(binaries).map(|initramfs| {
            let mut run = self.run(&initramfs, &self.arguments);
            run.try_again(|alone| self.run(&initramfs, alone));
            run
        });
        let run = run.unwrap_or_else(|error| self.failed(&error));
        say::note(&format!(
            "vm {name}: {} in {} s",
            run.counts(),
            start.elapsed().as_secs()
        ));
        run
    }

    fn failed(&self, error: &anyhow::Error) -> Run {
        Run {
            kernel: self.name.clone(),
            problems: vec![format!("{error:#}")],
            ..Run::default()
        }
    }

    /// A file of its own.
    fn file(&self, what: &str) -> PathBuf {
        file(self.directory, &self.name, what)
    }

    /// Boots, and says what the live tests did.
    fn run(&self, initramfs: &Path, arguments: &[String]) -> Run {
        let mut append = vec!["quiet".to_owned()];
        append.extend_from_slice(&self.words);
        if !arguments.is_empty() {
            append.push(format!("live.args={}", arguments.join(",")));
        }
        let guest = Guest {
            kernel: self.kernel,
            initramfs,
            append: &append.join(" "),
            memory: "1G",
            patience: BOOT_PATIENCE,
            log: &self.file("console"),
        };
        let start = || boot(&guest);
        let mut console = start();
        if let Some(why) = console.as_ref().ok().and_then(|it| emulators_fault(it)) {
            say::note(&format!("vm {}: {why}; once more", self.name));
            console = start();
        }
        match console {
            Ok(console) => Run::read(&self.name, &console, live::exit_code(&console)),
            Err(error) => self.failed(&error),
        }
    }

    /// Writes the initramfs: the live tests are its init.
    fn pack(&self, binaries: &Binaries) -> Result<PathBuf> {
        let mut initramfs = Initramfs::default();
        for name in ["proc", "sys", "dev", "tmp", "modules"] {
            initramfs.directory(name);
        }
        // The kernel opens it for init before anything can be mounted.
        initramfs.character_device("dev/console", 5, 1);
        initramfs.program("init", &read(&binaries.live)?);
        initramfs.program("tracer", &read(&binaries.tracer)?);
        let mut order = String::new();
        for module in &self.kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            initramfs.file(&format!("modules/{name}"), &read(module)?);
            order.push_str(&format!("/modules/{name}\n"));
        }
        initramfs.file("modules.order", order.as_bytes());
        let path = self.file("cpio");
        fs::write(&path, initramfs.finish())?;
        Ok(path)
    }
}

/// Why a machine came to nothing, if it was QEMU and not the kernel. It loses a boot now
/// and then. And while a kernel patches itself, as it does whenever a tracepoint gets its
/// first user, QEMU up to 8.0 may let another processor run into a breakpoint that is not
/// there any more ("int3: when running LTP tracing testing", linux-kernel, July 2023).
fn emulators_fault(console: &str) -> Option<&'static str> {
    if !console.lines().any(live::has_begun) {
        return Some("init said nothing");
    }
    let is_stale = |line: &str| line.contains("int3: 0000 [#");
    let has_stale = console.lines().any(is_stale) && live::exit_code(console).is_none();
    has_stale.then_some("the emulator ran a breakpoint that the kernel had taken away")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// A machine that tells in the words of the live tests how it fares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    /// More words for the kernel.
    pub(crate) append: &'a str,
    /// As QEMU wants it.
    pub(crate) memory: &'a str,
    /// From power-on to the first word.
    pub(crate) patience: Duration,
    /// Shows the console meanwhile to whoever wants to watch.
    pub(crate) log: &'a Path,
}

/// Boots it, waits for its end, and returns all that its console showed.
pub(crate) fn boot(guest: &Guest<'_>) -> Result<String> {
    let append = format!("console=ttyS0 panic=-1 oops=panic {}", guest.append);
    let mut machine = run::spawn(
        Command::new(QEMU.0)
            // Not KVM: /dev/kvm may exist and yet a guest under it hang. Without
            // CMPXCHG16B, because QEMU 7.2's emulation of it breaks Linux 6.12's kmalloc.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"])
            .args(["-smp", "2", "-m", guest.memory, "-nographic", "-no-reboot"])
            .args(["-nodefaults", "-serial", "stdio", "-kernel"])
            .arg(&guest.kernel.image)
            .arg("-initrd")
            .arg(guest.initramfs)
            .args(["-append", &append])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    let console = watch(&mut machine, guest, fs::File::create(guest.log)?);
    // By its own process id, and only if it did not power off.
    if run::wait_at_most(&mut machine, Duration::ZERO)?.is_none() {
        return Ok(console);
    }
    let mut complaint = String::new();
    if let Some(mut stderr) = machine.stderr.take() {
        std::io::Read::read_to_string(&mut stderr, &mut complaint)?;
    }
    Ok(console + &complaint)
}

/// Collects the console until the machine is off or out of time.
fn watch(machine: &mut Child, guest: &Guest<'_>, mut log: fs::File) -> String {
    let series = &guest.kernel.series;
    let Some(stdout) = machine.stdout.take() else {
        return String::new();
    };
    let (sender, receiver) = mpsc::channel();
    // Ends with the pipe, at the latest when the machine is killed.
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
    let mut console = String::new();
    let mut deadline = Instant::now() + guest.patience;
    let mut begun = false;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if !begun && live::has_begun(&line) {
                    begun = true;
                    deadline = Instant::now() + RUN_PATIENCE;
                }
                if let Some(failure) = live::failure(&line) {
                    say::note(&format!("vm {series}: {failure}"));
                }
                if line.contains("live-exit ") {
                    deadline = Instant::now() + END_PATIENCE;
                }
                // Nothing but a convenience: the result does not depend on it.
                let _ = log.write_all(line.as_bytes());
                console.push_str(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                console.push_str("\nxtask: this machine was out of time and is switched off\n");
                return console;
            }
            Err(RecvTimeoutError::Disconnected) => return console,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_begins_first() {
        let kernel = |series: &str| Kernel {
            series: series.to_owned(),
            release: String::new(),
            image: PathBuf::new(),
            modules: Vec::new(),
        };
        let kernels = ["5.10", IN_FULL, "7.2"].map(kernel);
        let names = |arguments: &[String]| -> Vec<String> {
            let machines = machines(Path::new(""), &kernels, arguments, &[]);
            machines.into_iter().map(|machine| machine.name).collect()
        };
        let all = names(&[]);
        assert_eq!(all[..3], [IN_FULL, "5.10", "7.2"]);
        assert_eq!(all.len(), 3 + BOOTS.len());
        assert!(all[3].contains(&BOOTS[0].1.join(" ")));
        // Whoever asks for something gets that and no more.
        assert_eq!(names(&["--brief".to_owned()]).len(), 3);
    }

    #[test]
    fn only_the_emulators_own_faults_are_forgiven() {
        let begun = "live: auto: attached\n";
        let oops = "[  199.0] Oops: int3: 0000 [#1] SMP NOPTI\n";
        assert!(emulators_fault("Booting from ROM..\n").is_some());
        assert!(emulators_fault(&format!("{begun}{oops}")).is_some());
        assert!(emulators_fault(&format!("{begun}{oops}live-exit 1\n")).is_none());
        for other in [
            "",
            "Kernel panic - not syncing\n",
            "Oops: Oops: 0000 [#1]\n",
        ] {
            assert_eq!(emulators_fault(&format!("{begun}{other}")), None, "{other}");
        }
    }
}

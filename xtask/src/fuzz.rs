//! `xtask fuzz`: everything that reads bytes of strangers gets bytes that nobody
//! thought of, for a bounded time or so many times.
//!
//! libFuzzer's coverage is made by LLVM, so stable Rust is enough. What was found
//! interesting is kept under `target/`, and is where the next run goes on.

mod seeds;
mod texts;

use crate::live::Counts;
use crate::place::Place;
use crate::{run, sanitize, say, toolchain};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The targets in `fuzz/fuzz_targets`, those that need most memory first; each has its
/// seeds in `seeds.rs`, and an entry in `fuzz/Cargo.toml`.
const TARGETS: &[&str] = &[
    "capture_reader",
    "record_parse",
    "btf",
    "cgroup_path",
    "filters",
    "proc_files",
    "ring_decode",
    "sanitise",
];

/// So many run at a time.
const AT_ONCE: usize = 2;

/// The build's own target triple keeps the flags away from build scripts.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What cargo-fuzz passes, without what only a nightly compiler has.
const FLAGS: &str = "\
    -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -C codegen-units=1";

/// What one input may take: megabytes of memory, seconds, and its own bytes.
const LIMITS: [&str; 3] = ["-rss_limit_mb=768", "-timeout=10", "-max_len=65536"];

/// When a target has had enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    After(Duration),
    /// So many inputs.
    Runs(u64),
}

/// For `xtask test`.
pub(crate) const BRIEF: End = End::After(Duration::from_secs(6));

/// For a person who does not say how long.
const LONG: End = End::After(Duration::from_secs(60));

/// So many inputs are to be had in a day at the worst.
const MOST_RUNS: u64 = 1_000_000_000;

const DAY: u64 = 24 * 3600;

/// Of what a target said, so much is shown if it fails.
const TAIL: usize = 40;

/// Larger inputs that fail are not printed.
const PRINTED: u64 = 4096;

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    targets: Vec<&'static str>,
    end: End,
    /// With AddressSanitizer: two to three times slower.
    is_sanitized: bool,
    /// Write the seeds, and run nothing.
    seeds: bool,
}

impl Choice {
    /// Every target, until then.
    pub(crate) fn all(end: End) -> Self {
        Self {
            targets: TARGETS.to_vec(),
            end,
            is_sanitized: false,
            seeds: false,
        }
    }

    /// The same with AddressSanitizer.
    pub(crate) fn sanitized(self) -> Self {
        Self {
            is_sanitized: true,
            ..self
        }
    }

    /// Reads the words after `xtask fuzz`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut choice = Self::all(LONG);
        let mut named = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--seeds" => choice.seeds = true,
                "--sanitize" => choice.is_sanitized = true,
                "--seconds" => {
                    let seconds = number(words.next(), DAY).context("--seconds needs a number")?;
                    choice.end = End::After(Duration::from_secs(seconds));
                }
                "--runs" => {
                    let runs = number(words.next(), MOST_RUNS).context("--runs needs a number")?;
                    choice.end = End::Runs(runs);
                }
                name => match TARGETS.iter().copied().find(|target| *target == name) {
                    Some(target) => named.push(target),
                    None => bail!("`{name}` is no target; these are: {}", TARGETS.join(", ")),
                },
            }
        }
        if !named.is_empty() {
            choice.targets = named;
        }
        Ok(choice)
    }
}

/// A number from 1 to `most`.
fn number(word: Option<&&str>, most: u64) -> Option<u64> {
    let number = word?.parse().ok();
    number.filter(|number| (1..=most).contains(number))
}

/// Does what was asked for; says whether all is well.
pub(crate) fn command(place: &Place, choice: &Choice) -> Result<bool> {
    if choice.seeds {
        return seeds::write(&place.root).map(|()| true);
    }
    let counts = fuzz(place, choice)?;
    say::result(&counts.summary());
    Ok(counts.failed == 0)
}

/// Builds and runs the targets: each passes or fails.
pub(crate) fn fuzz(place: &Place, choice: &Choice) -> Result<Counts> {
    let programs = build(place, choice.is_sanitized)?;
    let next = AtomicUsize::new(0);
    let some = || -> Result<Counts> {
        let mut counts = Counts::default();
        while let Some(target) = choice.targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if one(place, &programs, target, choice.end)? {
                counts.passed += 1;
            } else {
                counts.failed += 1;
            }
        }
        Ok(counts)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        let mut total = Counts::default();
        for worker in workers {
            let counts = worker.join().ok().context("a thread ended early")?;
            total.add(counts?);
        }
        Ok(total)
    })
}

/// libFuzzer itself is C++.
pub(crate) fn need_compiler() -> Result<()> {
    run::need_programs(&[("c++", "g++")])
}

/// Where the programs are.
pub(crate) fn build(place: &Place, is_sanitized: bool) -> Result<PathBuf> {
    need_compiler()?;
    say::note("building the fuzz targets");
    let mut target = home(place);
    let mut flags = FLAGS.to_owned();
    let mut command = toolchain::cargo();
    if is_sanitized {
        target = target.join("sanitized");
        flags = format!("{flags} {}", sanitize::FLAG);
        sanitize::permit(&mut command);
    }
    run::check(
        command
            .args(["build", "--quiet", "--release", "--target", TRIPLE])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(place.root.join("fuzz"))
            .env("RUSTFLAGS", flags),
    )?;
    Ok(target.join(TRIPLE).join("release"))
}

/// Builds, inputs that were kept, inputs that failed.
fn home(place: &Place) -> PathBuf {
    place.target.join("fuzz")
}

fn one(place: &Place, programs: &Path, target: &str, end: End) -> Result<bool> {
    let kept = home(place).join("corpus").join(target);
    let found = home(place).join("found").join(target);
    for directory in [&kept, &found] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let (wanted, flag, time) = match end {
        End::After(time) => {
            let seconds = time.as_secs();
            (
                format!("for {seconds} s"),
                format!("-max_total_time={seconds}"),
                time,
            )
        }
        End::Runs(runs) => (
            format!("{runs} times"),
            format!("-runs={runs}"),
            Duration::from_secs(DAY),
        ),
    };
    say::note(&format!("fuzzing {target} {wanted}"));
    let begun = Instant::now();
    let program = programs.join(target);
    let mut command = Command::new(&program);
    command
        .args([&kept, &seeds::directory(&place.root, target)])
        .arg(flag)
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(LIMITS)
        .arg("-print_final_stats=1");
    let (status, told) = watch(&mut command, time)?;
    let number = |name: &str| stat(&told, name).unwrap_or(0);
    let inputs = number("stat::number_of_executed_units:");
    let memory = number("stat::peak_rss_mb:");
    if status.is_some_and(|status| status.success()) && inputs > 0 {
        let seconds = begun.elapsed().as_secs();
        say::result(&format!(
            "fuzz {target} ok: {inputs} inputs in {seconds} s, {memory} MB"
        ));
        return Ok(true);
    }
    let how = status.map_or("it did not end".to_owned(), |status| status.to_string());
    let lines: Vec<&str> = told.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    say::result(&format!("FAIL fuzz {target}: {how}\n{tail}"));
    if let Some(input) = artifact(&told) {
        say::result(&again(&program, &input));
    }
    Ok(false)
}

/// Runs it; how it ended, if it did, and what it told on standard error.
fn watch(command: &mut Command, time: Duration) -> Result<(Option<ExitStatus>, String)> {
    /// For loading what was kept, and for the last input.
    const MORE: Duration = Duration::from_secs(120);
    let mut child = run::spawn(
        command
            .env("RUST_BACKTRACE", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    )?;
    let mut stderr = child.stderr.take().context("it has no stderr")?;
    // Beside the wait: a full pipe would stop it.
    let told = thread::spawn(move || {
        let mut told = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stderr.read_to_end(&mut told);
        String::from_utf8_lossy(&told).into_owned()
    });
    let status = run::wait_at_most(&mut child, time + MORE)?;
    Ok((status, told.join().unwrap_or_default()))
}

/// `stat::peak_rss_mb: 57`
fn stat(told: &str, name: &str) -> Option<u64> {
    let value = told.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

/// The input that failed, as libFuzzer names it.
fn artifact(told: &str) -> Option<PathBuf> {
    let (_, rest) = told.rsplit_once("Test unit written to ")?;
    rest.lines().next().map(PathBuf::from)
}

/// How to see it again, here and, if the input is small, anywhere.
fn again(program: &Path, input: &Path) -> String {
    let (program, file) = (program.display(), input.display());
    let mut told = format!("to see it again: {program} {file}");
    let is_small = fs::metadata(input).is_ok_and(|file| file.len() <= PRINTED);
    if is_small && let Ok(bytes) = fs::read(input) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        told.push_str(&format!("\nits input: echo {hex} | xxd -r -p > input"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() -> Result<()> {
        assert_eq!(Choice::parse(&[])?, Choice::all(LONG));
        let one = Choice::parse(&["ring_decode", "--seconds", "5"])?;
        assert_eq!(one.targets, ["ring_decode"]);
        assert_eq!(one.end, End::After(Duration::from_secs(5)));
        assert_eq!(Choice::parse(&["--runs", "9"])?.end, End::Runs(9));
        assert!(Choice::parse(&["--seeds"])?.seeds);
        for wrong in [&["ring"][..], &["--seconds"], &["--runs", "0"]] {
            assert!(Choice::parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn what_libfuzzer_tells() {
        let told = "x\nstat::peak_rss_mb:  57\nartifact_prefix='f/'; Test unit written to f/crash-1\nBase64: AA==\n";
        assert_eq!(stat(told, "stat::peak_rss_mb:"), Some(57));
        assert_eq!(artifact(told), Some("f/crash-1".into()));
        assert_eq!(artifact("all is well"), None);
    }

    /// A target that nobody runs is worth nothing, and neither is one without seeds.
    #[test]
    fn every_target_is_run_and_has_seeds() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
            files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        files.sort();
        let mut targets: Vec<_> = TARGETS.iter().map(|name| format!("{name}.rs")).collect();
        targets.sort();
        assert_eq!(files, targets);
        for target in TARGETS {
            let directory = seeds::directory(&root, target);
            assert!(fs::read_dir(&directory)?.count() > 2, "{target}");
        }
        Ok(())
    }
}

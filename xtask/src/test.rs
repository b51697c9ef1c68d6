//! `xtask test`: every test there is, and one verdict.

use crate::binaries;
use crate::fuzz;
use crate::kernels::{self, Kernels};
use crate::live::{self, Counts, Run};
use crate::place::Place;
use crate::{ahead, bench, browser, btf, cases, dist, run, say, this_kernel, toolchain, vm};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Series of kernels; empty for all.
    pub(crate) kernels: Vec<String>,
    /// Arguments for the live tests.
    pub(crate) live: Vec<String>,
    /// Words for the kernels.
    pub(crate) boot: Vec<String>,
}

/// Unit tests, live tests and cases on this kernel, live tests on the other kernels.
pub(crate) fn all(place: &Place, with_vm: bool) -> Result<bool> {
    let mut total = Counts::default();
    // Without kernels the other tests still have something to say.
    let kernels = kernels::fetch(place, &[]).unwrap_or_else(|error| Kernels {
        usable: Vec::new(),
        missing: vec![format!("of any series: {error:#}")],
    });
    btf::extract(place, &kernels.usable)?;
    total.add(unit_tests(place)?);
    let binaries = binaries::build(place)?;
    let ahead = ahead::start(place)?;
    let mut runs = vec![
        this_kernel::run(&binaries)?,
        part("cases", || {
            cases::run(place, &binaries.tracer, &cases::Choice::default())
        }),
        part("view", || cases::view::run(place, &binaries.tracer, false)),
        part("browser", || browser::run(place, &binaries.tracer)),
        part("duckdb", || cases::duckdb::run(place, &binaries.tracer)),
        part("prometheus", || {
            cases::prometheus::run(place, &binaries.tracer)
        }),
        part("otlp", || cases::otlp::run(place)),
        part("beside", || bench::beside(place, &binaries)),
    ];
    ahead.wait()?;
    total.add(fuzz::fuzz(place, &fuzz::Choice::all(fuzz::BRIEF))?);
    total.add(readme_commands(place)?);
    if with_vm {
        // Beside the machines, which leave the processors idle half of the time.
        vm::need_emulator()?;
        let (dist, machines) = thread::scope(|scope| {
            let dist = scope.spawn(|| part("dist", || dist::check::run(place, &kernels.usable)));
            let machines = vm::matrix(place, &kernels.usable, &binaries, &[], &[]);
            (dist.join(), machines)
        });
        match dist {
            Ok(run) => runs.push(run),
            Err(_) => bail!("the part dist panicked"),
        }
        runs.extend(machines?);
        total.add(missing(&kernels));
    }
    Ok(report(&runs, total))
}

/// A part of the tests; if anything in it fails, all of it is run once more. What passes
/// then is no failure, but is told with why it failed first: it may have been the machine,
/// and it may be a race of tracer's.
fn part(name: &str, run: impl Fn() -> Result<Run>) -> Run {
    let attempt = || {
        run().unwrap_or_else(|error| Run {
            kernel: name.to_owned(),
            problems: vec![format!("{error:#}")],
            ..Run::default()
        })
    };
    let mut first = attempt();
    if first.counts().failed == 0 {
        return first;
    }
    say::note(&format!("{name}: once more, because something failed:"));
    say::note(live::details(std::slice::from_ref(&first)).trim_end());
    let again = attempt();
    if first.problems.is_empty() {
        first.amend(&again);
        return first;
    }
    again
}

/// The live tests on the chosen kernels.
pub(crate) fn vms(place: &Place, choice: &Choice) -> Result<bool> {
    let kernels = kernels::fetch(place, &choice.kernels)?;
    let mut total = Counts::default();
    if choice.kernels.is_empty() {
        total.add(missing(&kernels));
    }
    for asked in &choice.kernels {
        if !kernels.usable.iter().any(|kernel| kernel.series == *asked) {
            bail!("there is no kernel {asked} to be had; without --kernel all that are will run");
        }
    }
    let binaries = binaries::build(place)?;
    let runs = vm::matrix(
        place,
        &kernels.usable,
        &binaries,
        &choice.live,
        &choice.boot,
    )?;
    Ok(report(&runs, total))
}

/// The chosen cases of docs/cases on this kernel.
pub(crate) fn cases(place: &Place, choice: &cases::Choice) -> Result<bool> {
    let run = cases::run(place, &binaries::tracer(place)?, choice)?;
    Ok(report(&[run], Counts::default()))
}

/// The full-screen view in a terminal.
pub(crate) fn view(place: &Place, write: bool) -> Result<bool> {
    let run = cases::view::run(place, &binaries::tracer(place)?, write)?;
    Ok(report(&[run], Counts::default()))
}

/// The HTML report in a browser.
pub(crate) fn browser(place: &Place) -> Result<bool> {
    let run = browser::run(place, &binaries::tracer(place)?)?;
    Ok(report(&[run], Counts::default()))
}

/// What DuckDB finds in captures and exports.
pub(crate) fn duckdb(place: &Place) -> Result<bool> {
    let run = cases::duckdb::run(place, &binaries::tracer(place)?)?;
    Ok(report(&[run], Counts::default()))
}

/// What Prometheus sees of tracer's metrics.
pub(crate) fn prometheus(place: &Place) -> Result<bool> {
    let run = cases::prometheus::run(place, &binaries::tracer(place)?)?;
    Ok(report(&[run], Counts::default()))
}

/// What an OpenTelemetry collector receives.
pub(crate) fn otlp(place: &Place) -> Result<bool> {
    let run = cases::otlp::run(place)?;
    Ok(report(&[run], Counts::default()))
}

/// Other tracers beside tracer.
pub(crate) fn beside(place: &Place) -> Result<bool> {
    let run = bench::beside(place, &binaries::build(place)?)?;
    Ok(report(&[run], Counts::default()))
}

/// What users download, installed and run.
pub(crate) fn dist(place: &Place) -> Result<bool> {
    let kernels = kernels::fetch(place, &[dist::check::KERNEL.to_owned()])?;
    let run = dist::check::run(place, &kernels.usable)?;
    Ok(report(&[run], Counts::default()))
}

/// A kernel that cannot be had is skipped; too many of them are a failure.
fn missing(kernels: &Kernels) -> Counts {
    for kernel in &kernels.missing {
        say::result(&format!("skip kernel {kernel}"));
    }
    let enough = kernels.usable.len() >= kernels::AT_LEAST;
    if !enough {
        say::result(&format!(
            "FAIL only {} kernels could be had, and {} are the least that prove something",
            kernels.usable.len(),
            kernels::AT_LEAST
        ));
    }
    Counts {
        passed: 0,
        failed: usize::from(!enough),
        skipped: kernels.missing.len(),
    }
}

fn unit_tests(place: &Place) -> Result<Counts> {
    say::note("cargo test --workspace --features tracer/otlp");
    let mut child = run::spawn(
        toolchain::cargo()
            .args(["test", "--workspace", "--no-fail-fast"])
            // What users download is built without, and tested live.
            .args(["--features", "tracer/otlp"])
            // With it, tests over kernel types fail where there are none.
            .env("TRACER_BTF_DIR", place.target.join("btf"))
            .current_dir(&place.root)
            .stdout(Stdio::piped()),
    )?;
    let mut counts = Counts::default();
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(more) = Counts::parse(&line) {
            counts.add(more);
        } else if !line.ends_with("... ok") {
            say::result(&line);
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("cargo test failed without a failed test ({status})");
    }
    Ok(counts)
}

/// What the README says to run and the live tests do not: installing, and the
/// first of its two commands (the second is this one).
fn readme_commands(place: &Place) -> Result<Counts> {
    let install = [
        "install",
        "--locked",
        "--path",
        "tracer",
        "--root",
        "target/xtask/installed",
    ];
    let watch = ["xtask", "watch", "--duration", "1s"];
    let mut counts = Counts::default();
    for arguments in [&install[..], &watch[..]] {
        let line = format!("cargo {}", arguments.join(" "));
        say::note(&line);
        let status = toolchain::cargo()
            .args(arguments)
            .current_dir(&place.root)
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("cannot run {line}"))?;
        if status.success() {
            counts.passed += 1;
        } else {
            counts.failed += 1;
            say::result(&format!("FAIL {line}: {status}"));
        }
    }
    Ok(counts)
}

/// Prints the table, the failures and the summary; says whether all is well.
fn report(runs: &[Run], mut total: Counts) -> bool {
    say::result(&live::table(runs));
    say::result(&live::details(runs));
    for run in runs {
        total.add(run.counts());
    }
    say::result(&total.summary());
    total.failed == 0
}

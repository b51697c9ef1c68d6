//! One tier: one tracer for all scenarios, then the verdict on each.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::case::{Case, Scenario, Skip};
use crate::cli::CliTest;
use crate::options::Options;
use crate::tracer::{Start, Tracer};
use crate::{limits, say, verdict};

/// How many scenarios ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Prints the verdict on one scenario and counts it.
    fn verdict(&mut self, tier: &str, name: &str, took: Duration, result: &Result<String>) {
        let (word, detail) = match result {
            Ok(detail) => {
                self.passed += 1;
                ("ok", detail.clone())
            }
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(reason) => {
                    self.skipped += 1;
                    ("skip", reason.to_string())
                }
                None => {
                    self.failed += 1;
                    ("FAIL", format!("{error:#}"))
                }
            },
        };
        let seconds = took.as_secs_f64();
        let line = format!(
            "live {tier} {name} {word} {seconds:.2}s {}",
            say::flat(&detail)
        );
        say::line(line.trim_end());
    }

    fn summary(self, tier: &str) -> Self {
        say::line(&format!(
            "live-summary {tier} passed={} failed={} skipped={}",
            self.passed, self.failed, self.skipped
        ));
        self
    }
}

/// A scenario and how it went so far.
struct Run {
    scenario: Scenario,
    case: Case,
    took: Duration,
    result: Result<()>,
}

/// Runs the scenarios of one tier. `seen`: the programs of the tiers before.
pub(crate) fn tier(
    options: &Options,
    tier: &str,
    scenarios: &[Scenario],
    seen: &mut Vec<BTreeMap<String, String>>,
) -> Tally {
    let mut runs: Vec<Run> = scenarios
        .iter()
        .map(|scenario| prepare(options, tier, *scenario))
        .collect();
    let mut tally = Tally::default();
    let tracer = match start(options, tier) {
        Ok(tracer) => tracer,
        Err(error) => {
            for run in &runs {
                tally.verdict(tier, run.scenario.name, Duration::ZERO, &Err(again(&error)));
            }
            return tally.summary(tier);
        }
    };
    if let Some(tracer) = &tracer {
        let programs = tracer.programs();
        // Nothing but the flag is different then.
        if (options.of_kernel || options.brief) && seen.contains(&programs) {
            say::line(&format!("live: {tier}: the programs of a tier before"));
            return tally;
        }
        seen.push(programs);
    }
    limits::regain_patience();
    for run in &mut runs {
        execute(tier, run, tracer.as_ref());
        // A failure needs no totals to be one.
        if let Err(error) = &run.result {
            tally.verdict(tier, run.scenario.name, run.took, &Err(again(error)));
        }
    }
    // Everything is over when tracer is asked for its totals.
    let stopped = tracer
        .as_ref()
        .map_or(Ok(()), |tracer| tracer.stop().map(|_| ()));
    for run in runs.iter().filter(|run| run.result.is_ok()) {
        let result = conclude(&run.case, tracer.as_deref(), &stopped);
        tally.verdict(tier, run.scenario.name, run.took, &result);
    }
    if let Some(tracer) = tracer {
        let result = match &stopped {
            Ok(()) => verdict::add_up(&tracer),
            Err(error) => Err(again(error)),
        };
        tally.verdict(tier, verdict::ADD_UP, Duration::ZERO, &result);
    }
    tally.summary(tier)
}

/// An error once more: they cannot be cloned.
fn again(error: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Skip>() {
        Some(skip) => Skip::because(skip.0.clone()),
        None => anyhow::anyhow!("{error:#}"),
    }
}

fn prepare(options: &Options, tier: &str, scenario: Scenario) -> Run {
    limits::now_running(tier, scenario.name);
    let mut case = Case::new((options.tracer.clone(), tier.to_owned()));
    let result = scenario
        .prepare
        .map_or(Ok(()), |prepare| prepare(&mut case));
    Run {
        scenario,
        case,
        took: Duration::ZERO,
        result,
    }
}

/// `None` with `--oracle-only`; a `Skip` when this kernel refuses the tier.
fn start(options: &Options, tier: &str) -> Result<Option<Rc<Tracer>>> {
    if options.oracle_only {
        return Ok(None);
    }
    limits::now_running(tier, "start");
    let begun = Instant::now();
    match Tracer::start(&options.tracer, &["--hooks", tier])? {
        Start::Ready(tracer) => {
            let took = begun.elapsed().as_secs_f64();
            say::remark(&format!(
                "{tier}: attached after {took:.2}s: {}",
                tracer.startup
            ));
            Ok(Some(Rc::from(tracer)))
        }
        Start::Refused(Some(4), why) => Err(Skip::because(why)),
        Start::Refused(code, why) => {
            anyhow::bail!("tracer ended with {code:?} instead of starting: {why}")
        }
    }
}

fn execute(tier: &str, run: &mut Run, tracer: Option<&Rc<Tracer>>) {
    limits::now_running(tier, run.scenario.name);
    let begun = Instant::now();
    if let (Ok(()), Some(tracer)) = (&run.result, tracer) {
        run.result = available(tracer, run.scenario.needs);
    }
    run.case.tracer = tracer.map(Rc::clone);
    if run.result.is_ok() {
        run.result = (run.scenario.run)(&mut run.case);
    }
    run.case.end_traffic();
    run.took = begun.elapsed();
}

fn available(tracer: &Tracer, needs: &[&str]) -> Result<()> {
    for purpose in needs {
        let (tier, _, reason) = tracer.hook(purpose);
        if tier == "none" {
            return Err(Skip::because(format!("no hook for {purpose}: {reason}")));
        }
    }
    Ok(())
}

/// The second half of the verdict: the whole story and the totals.
fn conclude(case: &Case, tracer: Option<&Tracer>, stopped: &Result<()>) -> Result<String> {
    let Some(tracer) = tracer else {
        return Ok(String::new());
    };
    if let Err(error) = stopped {
        return Err(again(error));
    }
    verdict::judge(case, tracer).context("afterwards")
}

/// Runs the tests of the command line.
pub(crate) fn cli(tracer: &Path, tests: &[&CliTest]) -> Tally {
    let mut tally = Tally::default();
    for test in tests {
        limits::now_running("cli", test.name);
        let begun = Instant::now();
        let result = (test.run)(tracer).map(|()| String::new());
        tally.verdict("cli", test.name, begun.elapsed(), &result);
    }
    tally.summary("cli")
}

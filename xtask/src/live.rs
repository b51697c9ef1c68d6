//! What the live tests said: reading it, and showing many runs as one table.

use crate::say;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// An emulator is slow and uneven enough to make races of its own, and so is a machine
/// that others share; a failure that is tracer's comes back when its scenario is run
/// again. More than this many are no accident.
const AGAIN_AT_MOST: usize = 4;

/// How one scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// Failed, and passed when it was run again, alone.
    PassedAgain,
    Failed,
    Skipped,
}

/// One scenario on one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) tier: String,
    pub(crate) scenario: String,
    pub(crate) verdict: Verdict,
    pub(crate) detail: String,
}

/// All that the live tests did on one kernel.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The kernel, as the table names it.
    pub(crate) kernel: String,
    pub(crate) outcomes: Vec<Outcome>,
    /// What went wrong around the scenarios: each counts as a failure.
    pub(crate) problems: Vec<String>,
}

/// How many passed, failed, were skipped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// Adds another count to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The summary that every test runner of Rust prints.
    pub(crate) fn summary(self) -> String {
        format!(
            "test result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out",
            if self.failed == 0 { "ok" } else { "FAILED" },
            self.passed,
            self.failed,
            self.skipped
        )
    }

    /// Reads such a summary.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("test result:")?;
        let count = |what: &str| -> Option<usize> {
            let before = rest.split(what).next()?;
            before.split_whitespace().last()?.parse().ok()
        };
        Some(Self {
            passed: count(" passed")?,
            failed: count(" failed")?,
            skipped: count(" ignored")?,
        })
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Run {
    /// What a run's output says; `code` is how it ended, if it ended.
    pub(crate) fn read(kernel: &str, text: &str, code: Option<i32>) -> Self {
        let mut run = Self {
            kernel: kernel.to_owned(),
            ..Self::default()
        };
        let mut announced = Counts::default();
        for line in text.lines().map(str::trim_end) {
            if let Some(outcome) = parse_outcome(line) {
                run.outcomes.push(outcome);
            } else if let Some(summary) = parse_summary(line) {
                announced.add(summary);
            }
        }
        let seen = run.outcome_counts();
        if announced != seen {
            run.problems.push(format!(
                "the summaries say {announced}; the lines read say {seen}"
            ));
        }
        match code {
            Some(0) if run.outcomes.is_empty() => {
                run.problems.push("no scenario was run".to_owned());
            }
            Some(0) => {}
            Some(_) if seen.failed > 0 => {}
            Some(code) => run.problems.push(format!(
                "the live tests ended with code {code}, last lines:\n{}",
                tail(text)
            )),
            None => run.problems.push(format!(
                "the live tests never ended, last lines:\n{}",
                tail(text)
            )),
        }
        run
    }

    /// The counts of this run; a problem is a failure.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.outcome_counts();
        counts.failed += self.problems.len();
        counts
    }

    /// Tier and scenario of what failed.
    fn failed(&self) -> Vec<(String, String)> {
        let failed = |outcome: &&Outcome| outcome.verdict == Verdict::Failed;
        let name = |outcome: &Outcome| (outcome.tier.clone(), outcome.scenario.clone());
        self.outcomes.iter().filter(failed).map(name).collect()
    }

    /// Runs alone, once more, what failed; `run` takes arguments for the live tests.
    pub(crate) fn try_again(&mut self, mut run: impl FnMut(&[String]) -> Self) {
        for (tier, scenario) in self.failed().into_iter().take(AGAIN_AT_MOST) {
            say::note(&format!(
                "{}: {tier} {scenario} once more, alone",
                self.kernel
            ));
            // The tests of the command line belong to no tier and run with any.
            let tier = if tier == "cli" {
                "auto".to_owned()
            } else {
                tier
            };
            let alone = ["--tier", &tier, "--filter", &scenario].map(str::to_owned);
            let again = run(&alone);
            self.amend(&again);
        }
    }

    /// Takes note of what passed in `again`; why it failed first stays known.
    pub(crate) fn amend(&mut self, again: &Self) {
        for outcome in &mut self.outcomes {
            let passed = again.outcomes.iter().any(|other| {
                (&other.tier, &other.scenario) == (&outcome.tier, &outcome.scenario)
                    && other.verdict == Verdict::Passed
            });
            if outcome.verdict == Verdict::Failed && passed {
                outcome.verdict = Verdict::PassedAgain;
            }
        }
    }

    fn outcome_counts(&self) -> Counts {
        let of = |verdict| {
            self.outcomes
                .iter()
                .filter(|outcome| outcome.verdict == verdict)
                .count()
        };
        Counts {
            passed: of(Verdict::Passed) + of(Verdict::PassedAgain),
            failed: of(Verdict::Failed),
            skipped: of(Verdict::Skipped),
        }
    }
}

/// The code behind `live-exit`, the last word of a virtual machine.
pub(crate) fn exit_code(text: &str) -> Option<i32> {
    text.lines()
        .filter_map(|line| line.split_once("live-exit "))
        .find_map(|(_, code)| code.split_whitespace().next()?.parse().ok())
}

/// One failure in a few words, for those who watch: the details come at the end.
pub(crate) fn failure(line: &str) -> Option<String> {
    let outcome = parse_outcome(line)?;
    (outcome.verdict == Verdict::Failed)
        .then(|| format!("FAIL {} {}", outcome.tier, outcome.scenario))
}

/// Whether the init of a virtual machine has said anything yet, perhaps behind
/// what the firmware left on the line.
pub(crate) fn has_begun(line: &str) -> bool {
    let says = |word: &str| {
        line.match_indices(word)
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_lowercase()))
    };
    says("live: ") || says("live-") || parse_outcome(line).is_some()
}

/// `live <tier> <scenario> ok|FAIL|skip <seconds>s [detail]`, perhaps behind noise of the kernel.
fn parse_outcome(line: &str) -> Option<Outcome> {
    line.match_indices("live ")
        .find_map(|(at, _)| outcome_at(line.get(at..)?))
}

fn outcome_at(text: &str) -> Option<Outcome> {
    let mut words = text.splitn(6, ' ').skip(1);
    let (tier, scenario) = (words.next()?, words.next()?);
    let verdict = match words.next()? {
        "ok" => Verdict::Passed,
        "FAIL" => Verdict::Failed,
        "skip" => Verdict::Skipped,
        _ => return None,
    };
    words
        .next()?
        .trim()
        .strip_suffix('s')?
        .parse::<f64>()
        .ok()?;
    Some(Outcome {
        tier: tier.to_owned(),
        scenario: scenario.to_owned(),
        verdict,
        detail: words.next().unwrap_or_default().trim().to_owned(),
    })
}

/// `live-summary <tier> passed=N failed=N skipped=N`
fn parse_summary(line: &str) -> Option<Counts> {
    let (_, rest) = line.split_once("live-summary ")?;
    let count = |name: &str| -> Option<usize> {
        rest.split_whitespace()
            .find_map(|word| word.strip_prefix(name))?
            .parse()
            .ok()
    };
    Some(Counts {
        passed: count("passed=")?,
        failed: count("failed=")?,
        skipped: count("skipped=")?,
    })
}

/// The last lines of an output, and before them the line that says why a kernel gave up.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(20));
    before
        .iter()
        .filter(|line| {
            ["Kernel panic", "BUG:", "Oops:"]
                .iter()
                .any(|it| line.contains(it))
        })
        .chain(last)
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// Kernels × tiers × scenarios: a row a scenario, a group of letters a kernel.
pub(crate) fn table(runs: &[Run]) -> String {
    let tiers = in_order(runs.iter().flat_map(|run| &run.outcomes), |o| &o.tier);
    let scenarios = in_order(runs.iter().flat_map(|run| &run.outcomes), |o| &o.scenario);
    if scenarios.is_empty() {
        return String::new();
    }
    let name_width = scenarios.iter().map(|s| s.len()).max().unwrap_or(0).max(8);
    let width = |run: &Run| run.kernel.len().max(tiers.len());
    let letters: String = tiers
        .iter()
        .filter_map(|tier| tier.chars().next())
        .collect();
    let mut out = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| {
        let cells: Vec<String> = runs
            .iter()
            .map(|run| format!("{:<1$}", cell(run), width(run)))
            .collect();
        let _ = writeln!(out, "{name:<name_width$}  {}", cells.join("  ").trim_end());
    };
    row("kernel", &|run| run.kernel.clone());
    row("tier", &|_| letters.clone());
    for scenario in &scenarios {
        row(scenario, &|run| {
            tiers.iter().map(|tier| mark(run, tier, scenario)).collect()
        });
    }
    let names: Vec<String> = tiers
        .iter()
        .map(|tier| format!("{}={tier}", tier.chars().next().unwrap_or('?')))
        .collect();
    let _ = writeln!(
        out,
        "tiers: {}; o passed, r passed when run again, F failed, - skipped, blank not run",
        names.join(" ")
    );
    out
}

fn mark(run: &Run, tier: &str, scenario: &str) -> char {
    let found = run
        .outcomes
        .iter()
        .rfind(|outcome| outcome.tier == tier && outcome.scenario == scenario);
    match found.map(|outcome| outcome.verdict) {
        Some(Verdict::Passed) => 'o',
        Some(Verdict::PassedAgain) => 'r',
        Some(Verdict::Failed) => 'F',
        Some(Verdict::Skipped) => '-',
        None => ' ',
    }
}

fn in_order<'a>(
    outcomes: impl Iterator<Item = &'a Outcome>,
    name: impl Fn(&'a Outcome) -> &'a String,
) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for outcome in outcomes {
        if seen.insert(name(outcome)) {
            names.push(name(outcome).as_str());
        }
    }
    names
}

/// Every failure with what is known about it, and why scenarios were skipped.
pub(crate) fn details(runs: &[Run]) -> String {
    let mut out = String::new();
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for run in runs {
        for outcome in &run.outcomes {
            let whence = format!("{} {} {}", run.kernel, outcome.tier, outcome.scenario);
            match outcome.verdict {
                Verdict::Failed => {
                    let _ = writeln!(out, "FAIL {whence}: {}", outcome.detail);
                }
                Verdict::PassedAgain => {
                    let _ = writeln!(out, "again {whence}: first {}", outcome.detail);
                }
                Verdict::Skipped => match reasons.iter_mut().find(|(r, _)| *r == outcome.detail) {
                    Some((_, whences)) => whences.push(whence),
                    None => reasons.push((outcome.detail.clone(), vec![whence])),
                },
                Verdict::Passed => {}
            }
        }
        for problem in &run.problems {
            let _ = writeln!(out, "FAIL {}: {problem}", run.kernel);
        }
    }
    for (reason, whences) in reasons {
        let first = whences.first().map_or("", String::as_str);
        let others = match whences.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let _ = writeln!(out, "skip {first}{others}: {reason}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_may_stand_behind_the_firmware() {
        for line in [
            "live: auto: attached",
            "Booting from ROM..\x1b[2Jlive: auto: attached",
            "live-summary auto passed=1 failed=0 skipped=0",
            "live auto connect/x ok 0.10s",
        ] {
            assert!(has_begun(line), "{line}");
        }
        for line in [
            "",
            "Booting from ROM..",
            "keepalive: on",
            "live.args=--tier",
        ] {
            assert!(!has_begun(line), "{line}");
        }
    }

    const CONSOLE: &str = "[    0.1] noise\r\n\
        live: a remark\r\n\
        live auto ports ok 1.25s\r\n\
        [   2.0] e1000: live auto queue FAIL 0.5s expected 1, got 2\r\n\
        live auto v6 skip 0s no such hook\r\n\
        live-summary auto passed=1 failed=1 skipped=1\r\n\
        live-exit 1\r\n";

    #[test]
    fn what_passes_again_is_no_failure_but_is_told() {
        let mut run = Run::read("6.1", CONSOLE, exit_code(CONSOLE));
        assert_eq!(run.failed(), [("auto".to_owned(), "queue".to_owned())]);
        run.amend(&Run::read("6.1", CONSOLE, Some(1)));
        assert_eq!(run.counts().failed, 1);
        let again = "live auto queue ok 1s\nlive-summary auto passed=1 failed=0 skipped=0\n";
        run.amend(&Run::read("6.1", again, Some(0)));
        assert_eq!((run.counts().failed, run.counts().passed), (0, 2));
        let details = details(&[run]);
        assert!(
            details.contains("again 6.1 auto queue: first expected 1, got 2"),
            "{details}"
        );
    }

    #[test]
    fn lines_are_found_in_a_console() {
        let run = Run::read("6.1", CONSOLE, exit_code(CONSOLE));
        assert_eq!(run.problems, Vec::<String>::new());
        assert_eq!(
            run.counts(),
            Counts {
                passed: 1,
                failed: 1,
                skipped: 1
            }
        );
        assert_eq!(run.outcomes[1].scenario, "queue");
        assert_eq!(run.outcomes[1].detail, "expected 1, got 2");
        assert!(details(&[run]).starts_with("FAIL 6.1 auto queue: expected 1, got 2\nskip"));
    }

    #[test]
    fn a_run_that_never_ends_fails() {
        let text = CONSOLE.replace("live-exit 1", "Kernel panic");
        let run = Run::read("6.1", &text, exit_code(&text));
        assert_eq!(run.counts().failed, 2);
        assert!(run.problems[0].contains("Kernel panic"));
    }

    #[test]
    fn lost_lines_are_noticed() {
        let text = CONSOLE.replace("live auto ports", "li[ 1.0] x\nve auto ports");
        let run = Run::read("6.1", &text, Some(1));
        assert_eq!(run.problems.len(), 1);
    }

    #[test]
    fn other_lines_are_not_outcomes() {
        for line in [
            "live",
            "live auto ports",
            "live auto ports maybe 1s",
            "live auto ports ok soon",
            "alive and well ok 1",
        ] {
            assert_eq!(parse_outcome(line), None, "{line}");
        }
    }

    #[test]
    fn one_table_for_all_kernels() {
        let other = "live auto ports ok 1s\nlive portable ports skip 1s x\n\
            live-summary auto passed=1 failed=0 skipped=0\n\
            live-summary portable passed=0 failed=0 skipped=1\n";
        let runs = [
            Run::read("6.1", CONSOLE, Some(1)),
            Run::read("this kernel", other, Some(0)),
        ];
        assert_eq!(
            table(&runs),
            "kernel    6.1  this kernel\n\
             tier      ap   ap\n\
             ports     o    o-\n\
             queue     F\n\
             v6        -\n\
             tiers: a=auto p=portable; o passed, r passed when run again, F failed, - skipped, blank not run\n"
        );
    }

    #[test]
    fn summaries_are_read_and_written() {
        let line =
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished";
        let counts = Counts::parse(line);
        assert_eq!(
            counts,
            Some(Counts {
                passed: 12,
                failed: 0,
                skipped: 3
            })
        );
        assert!(line.starts_with(&counts.unwrap_or_default().summary()));
        assert_eq!(Counts::parse("running 3 tests"), None);
    }
}

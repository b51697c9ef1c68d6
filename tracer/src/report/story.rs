//! What is told, in which order and in which words? Text and HTML lay the same
//! story out.
//!
//! Every string in it is as a terminal may have it. Pure.

mod captured;
mod finding;
mod totals;

use super::{
    analyse::{About, Analysis, Failing},
    clock::Clock,
    record::Queue,
    tally::Others,
    timeline::Course,
    unseen,
    words::{at_least, many, more, named, people, shown},
};
use crate::output::sanitize::harmless;
pub(super) use totals::{Beside, Compared};

/// Instead of what was not seen.
pub(super) const ALL_SEEN: &str = "nothing that tracer knows of";

/// The whole of it.
#[derive(Debug)]
pub(super) struct Story<'a> {
    /// How many failures, and where.
    pub(super) title: String,
    /// Labels and what they say; a line without a label goes on.
    pub(super) captured: Vec<(&'static str, String)>,
    /// The worst first.
    pub(super) findings: Vec<Told<'a>>,
    /// Instead of findings, or after them.
    pub(super) remark: Option<String>,
    pub(super) programs: List<'a>,
    pub(super) listeners: List<'a>,
    pub(super) totals: Compared,
    pub(super) not_seen: Vec<String>,
}

/// One finding.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// Who, what, why.
    pub(super) headline: String,
    /// How many, when, where.
    pub(super) extent: String,
    /// Who has what the others lack, if it is not in the blocks.
    pub(super) culprit: Option<String>,
    pub(super) course: &'a Course,
    pub(super) is_drops: bool,
    pub(super) blocks: Vec<Block<'a>>,
}

/// What belongs together within a finding.
#[derive(Debug)]
pub(super) enum Block<'a> {
    Line(String),
    /// What it comes down to.
    Gist(String),
    Ports(Ports),
    Queue {
        line: String,
        spell: &'a Queue,
    },
    Advice(Vec<Step>),
}

/// Where the ports were.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) heading: String,
    pub(super) rows: Vec<Share>,
}

/// Some of the ports.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) ports: u64,
    pub(super) what: String,
    pub(super) holders: String,
    /// Nobody has them.
    pub(super) is_free: bool,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) text: String,
    pub(super) id: String,
}

/// The heaviest of something.
#[derive(Debug)]
pub(super) struct List<'a> {
    pub(super) heading: &'static str,
    pub(super) rows: Vec<Row<'a>>,
    /// What is not told one by one: how much, and of what.
    pub(super) others: Option<(String, String)>,
}

/// A count, whose it is, and what about it.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) count: String,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) course: &'a Course,
}

impl<'a> Story<'a> {
    /// `notes`: what could not be read of the files. `top`: entries of each
    /// list.
    pub(super) fn of(analysis: &'a Analysis, notes: &[String], clock: &Clock, top: usize) -> Self {
        Self {
            title: captured::title(analysis),
            captured: captured::tell(analysis, notes, clock),
            findings: analysis
                .findings()
                .iter()
                .take(top)
                .map(|found| finding::tell(found, analysis, clock))
                .collect(),
            remark: remark(analysis, top),
            programs: programs(analysis, top),
            listeners: listeners(analysis, clock, top),
            totals: totals::tell(analysis, top),
            not_seen: not_seen(analysis, notes, clock),
        }
    }
}

fn remark(analysis: &Analysis, top: usize) -> Option<String> {
    let findings = analysis.findings();
    if findings.is_empty() {
        let text = match analysis.shown {
            0 if analysis.events > 0 => "No failure is left of what was asked for.",
            _ => "No failure was captured.",
        };
        return Some(text.to_owned());
    }
    let told = |is_call: bool| {
        let told = findings.iter().take(top);
        told.filter(|finding| matches!(finding.about, About::Calls(..)) == is_call)
            .count()
    };
    let others = [
        analysis.calls.others(told(true)),
        analysis.listeners.others(told(false)),
    ];
    let keys = others[0].keys.saturating_add(others[1].keys);
    let count = others[0].count.saturating_add(others[1].count);
    (keys > 0).then(|| {
        format!(
            "{} with {} (--top N)",
            more(keys, "finding"),
            many(count, "failure")
        )
    })
}

fn programs(analysis: &Analysis, top: usize) -> List<'_> {
    let rows = analysis.processes.by_weight().into_iter().take(top);
    let rows = rows.map(|((boot, program), row)| {
        let mut name = named(program, &row.detail.pids);
        if let Some(host) = analysis.host(*boot) {
            name.push_str(&format!(" on {}", shown(host)));
        }
        Row {
            count: at_least(row.count, row.is_partial),
            name,
            text: reason(&row.detail, analysis),
            course: &row.detail.course,
        }
    });
    List {
        heading: "programs by failed calls",
        rows: rows.collect(),
        others: rest(analysis.processes.others(top), "program"),
    }
}

/// What failed most, and who is behind it.
fn reason(process: &Failing, analysis: &Analysis) -> String {
    let reasons = process.reasons.by_weight();
    let Some((key, _)) = reasons.first() else {
        return String::new();
    };
    let mut text = finding::what_failed(key);
    let calls = analysis.calls.get(key).map(|row| &row.detail);
    if let Some(culprit) = calls.and_then(finding::culprit) {
        text.push_str("; ");
        text.push_str(&culprit);
    }
    let others = process.reasons.others(1);
    if others.count > 0 {
        text.push_str(&format!("; {} for other reasons", others.count));
    }
    text
}

fn listeners<'a>(analysis: &'a Analysis, clock: &Clock, top: usize) -> List<'a> {
    let rows = analysis.listeners.by_weight().into_iter().take(top);
    let rows = rows.map(|(key, row)| Row {
        count: at_least(row.count, row.is_partial),
        name: shown(&key.local),
        text: format!(
            "{}; {}; {}",
            people(&row.detail.who, 1),
            finding::causes(&row.detail),
            clock.between(row.detail.times)
        ),
        course: &row.detail.course,
    });
    List {
        heading: "listeners by drops",
        rows: rows.collect(),
        others: rest(analysis.listeners.others(top), "listener"),
    }
}

fn rest(others: Others, what: &str) -> Option<(String, String)> {
    (others.keys > 0).then(|| (others.count.to_string(), more(others.keys, what)))
}

fn not_seen(analysis: &Analysis, notes: &[String], clock: &Clock) -> Vec<String> {
    let mut sentences = unseen::sentences(analysis);
    sentences.extend_from_slice(notes);
    for gap in &analysis.gaps {
        sentences.push(format!(
            "{} to {}: {}",
            clock.day_and_time(gap.since),
            clock.end_time(gap.since, gap.until),
            gap.why
        ));
    }
    if analysis.more_gaps > 0 {
        sentences.push(format!("{} more gaps", analysis.more_gaps));
    }
    sentences
        .iter()
        .map(|sentence| harmless(sentence))
        .collect()
}

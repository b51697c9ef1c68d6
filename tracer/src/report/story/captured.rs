//! Of what is the capture, and how much of it is shown?

use super::super::{
    analyse::Analysis,
    clock::Clock,
    runs::Run,
    words::{many, seconds, shown},
};
use crate::output::sanitize::harmless;

/// Runs that are told one by one.
const RUNS: usize = 4;

/// Hosts that a title names.
const HOSTS: usize = 3;

/// `7 failures on db7`, `3 of 7 failures on db7, db8`
pub(super) fn title(analysis: &Analysis) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    for run in &analysis.runs.told {
        if !run.host.is_empty() && !hosts.contains(&&*run.host) {
            hosts.push(&run.host);
        }
    }
    let mut title = many(analysis.events, "failure");
    if analysis.is_filtered() {
        title = format!("{} of {title}", analysis.shown);
    }
    let named: Vec<_> = hosts.iter().take(HOSTS).map(|host| shown(host)).collect();
    if !named.is_empty() {
        title.push_str(&format!(" on {}", named.join(", ")));
    }
    match hosts.len().saturating_sub(HOSTS) {
        0 => title,
        more => format!("{title} +{more}"),
    }
}

pub(super) fn tell(
    analysis: &Analysis,
    notes: &[String],
    clock: &Clock,
) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    let label = "captured";
    let Some((first, last)) = analysis.span.0 else {
        let nothing = match analysis.records {
            0 => "nothing: there is no record",
            _ => "nothing: no record that this tracer understands",
        };
        return vec![(label, nothing.to_owned())];
    };
    let span = |first, last| {
        let (from, to) = (clock.day_and_time(first), clock.end_time(first, last));
        format!("{from} to {to} ({})", seconds(first, last))
    };
    let runs = &analysis.runs.told;
    let lines: Vec<String> = match &runs[..] {
        [run] => vec![place(run), format!("{}, {}", span(first, last), end(run))],
        _ => {
            let earlier = runs.len().saturating_sub(RUNS);
            let told = runs
                .iter()
                .skip(earlier)
                .map(|run| match (run.first, run.last) {
                    (Some(first), Some(last)) => {
                        format!("{}: {}, {}", place(run), span(first, last), end(run))
                    }
                    _ => place(run),
                });
            let all = format!("{} in {} runs", span(first, last), runs.len());
            let all = match earlier {
                0 => all,
                _ => format!("{all}, the last {RUNS} of them:"),
            };
            std::iter::once(all).chain(told).collect()
        }
    };
    for (index, line) in lines.into_iter().enumerate() {
        told.push((if index == 0 { label } else { "" }, line));
    }
    told.push(("", counts(analysis)));
    if let [first, more @ ..] = notes {
        let more = match more.len() {
            0 => String::new(),
            more => format!("; {more} more such notes at the end"),
        };
        told.push(("files", format!("{}{more}", harmless(first))));
    }
    if let Some(run) = runs.last() {
        told.push(("hooks", hooks(run)));
    }
    let filter = filter(analysis, clock);
    if !filter.is_empty() {
        let of = format!("{} of {}", analysis.shown, many(analysis.events, "failure"));
        told.push(("shown", format!("{of}: {}", filter.join(", "))));
    }
    told
}

fn counts(analysis: &Analysis) -> String {
    let mut counts = vec![
        many(analysis.events, "failure"),
        many(analysis.censuses, "census"),
        many(analysis.queues, "queue record"),
    ];
    counts.push(match analysis.lost {
        0 => "none lost".to_owned(),
        lost => format!("{lost} lost"),
    });
    let gaps = u64::try_from(analysis.gaps.len()).unwrap_or(u64::MAX);
    counts.push(match gaps.saturating_add(analysis.more_gaps) {
        0 => "no gap".to_owned(),
        gaps => many(gaps, "gap"),
    });
    counts.join(", ")
}

fn end(run: &Run) -> String {
    match &run.end {
        Some(reason) => format!("ended: {}", shown(reason).replace('_', " ")),
        None => "no end: killed, or still being written".to_owned(),
    }
}

fn place(run: &Run) -> String {
    let or_unknown = |text: &str| match text {
        "" => "unknown".to_owned(),
        _ => shown(text),
    };
    format!(
        "on {}, Linux {}, by tracer {}",
        or_unknown(&run.host),
        or_unknown(&run.kernel),
        or_unknown(&run.version)
    )
}

/// `function hooks for everything`
fn hooks(run: &Run) -> String {
    let label = |tier: &str| match tier {
        "function" => "function hooks".to_owned(),
        "kprobe" => "kprobes".to_owned(),
        "portable" => "tracepoints and cgroup_skb".to_owned(),
        "none" => "nothing".to_owned(),
        other => shown(other),
    };
    let used: Vec<_> = run
        .tiers
        .iter()
        .map(|(tier, purposes)| match run.tiers.len() {
            1 => format!("{} for everything", label(tier)),
            _ => format!("{} for {}", label(tier), shown(&purposes.join(", "))),
        })
        .collect();
    let mut text = match used.is_empty() {
        true => "unknown: the files hold no startup record".to_owned(),
        false => used.join("; "),
    };
    if !run.degradations.is_empty() {
        text.push_str("; what they cannot give is told at the end");
    }
    text
}

fn filter(analysis: &Analysis, clock: &Clock) -> Vec<String> {
    let filter = analysis.filter();
    let mut parts = Vec::new();
    if let Some(since) = filter.since {
        parts.push(format!("since {}", clock.day_and_time(since)));
    }
    if let Some(until) = filter.until {
        parts.push(format!("until {}", clock.day_and_time(until)));
    }
    parts.extend(filter.only.words().iter().map(|words| shown(words)));
    parts
}

//! The report for people: the first screen tells the story. Pure.

mod chart;
mod finding;
mod layout;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    analyse::{About, Analysis, Failing, Listener},
    crowd::{Pids, Program},
    record::Who,
    runs::{COUNTERS, Kernel, Run, Totals},
    unseen,
};
use crate::output::sanitize::{harmless, printable};
use layout::{Page, TIE};

/// Runs that are told one by one.
const RUNS: usize = 4;

/// How the report looks.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) width: usize,
    pub(super) colour: bool,
    pub(super) zone: TimeZone,
    /// Entries of each list.
    pub(super) top: usize,
}

/// `notes`: what could not be read of the files.
pub(super) fn report(analysis: &Analysis, notes: &[String], style: &Style) -> String {
    let mut page = Page::new(style, analysis.window());
    captured(&mut page, analysis, notes);
    findings(&mut page, analysis);
    if let Some((since, until)) = analysis.window() {
        chart::draw(&mut page, analysis, since, until);
    }
    processes(&mut page, analysis);
    listeners(&mut page, analysis);
    totals(&mut page, analysis);
    not_seen(&mut page, analysis, notes);
    page.text
}

fn captured(page: &mut Page<'_>, analysis: &Analysis, notes: &[String]) {
    let runs = &analysis.runs.told;
    let label = "captured";
    let Some((first, last)) = analysis.span.0 else {
        let nothing = match analysis.records {
            0 => "nothing: there is no record",
            _ => "nothing: no record that this tracer understands",
        };
        page.labelled(label, nothing);
        return;
    };
    let span = |first, last| {
        let (from, to) = (page.day_and_time(first), page.end_time(first, last));
        format!("{from} to {to} ({})", seconds(first, last))
    };
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
    for (index, line) in lines.iter().enumerate() {
        page.labelled(if index == 0 { label } else { "" }, line);
    }
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
    page.labelled("", &counts.join(", "));
    if let [first, more @ ..] = notes {
        let more = match more.len() {
            0 => String::new(),
            more => format!("; {more} more such notes at the end"),
        };
        page.labelled("files", &format!("{}{more}", harmless(first)));
    }
    if let Some(run) = runs.last() {
        page.labelled("hooks", &hooks(run));
    }
    let filter = filter(page, analysis);
    if !filter.is_empty() {
        let of = format!("{} of {}", analysis.shown, many(analysis.events, "failure"));
        page.labelled("shown", &format!("{of}: {}", filter.join(", ")));
    }
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

fn filter(page: &Page<'_>, analysis: &Analysis) -> Vec<String> {
    let filter = analysis.filter();
    let mut parts = Vec::new();
    if let Some(since) = filter.since {
        parts.push(format!("since {}", page.day_and_time(since)));
    }
    if let Some(until) = filter.until {
        parts.push(format!("until {}", page.day_and_time(until)));
    }
    parts.extend(filter.pids.iter().map(|pid| format!("pid {pid}")));
    parts.extend(filter.comms.iter().map(|comm| shown(comm)));
    parts.extend(filter.kinds.iter().map(|kind| kind.name().to_owned()));
    parts
}

fn findings(page: &mut Page<'_>, analysis: &Analysis) {
    let findings = analysis.findings();
    page.blank();
    if findings.is_empty() {
        page.line(match analysis.shown {
            0 if analysis.events > 0 => "No failure is left of what was asked for.",
            _ => "No failure was captured.",
        });
        return;
    }
    let top = page.style.top;
    for (index, finding) in findings.iter().take(top).enumerate() {
        if index > 0 {
            page.blank();
        }
        finding::tell(page, index + 1, finding, analysis);
    }
    let calls = analysis.calls.by_weight().len();
    let told = |is_call: bool| {
        let told = findings.iter().take(top);
        told.filter(|finding| matches!(finding.about, About::Calls(..)) == is_call)
            .count()
    };
    let others = [
        analysis.calls.others(told(true).min(calls)),
        analysis.listeners.others(told(false)),
    ];
    let keys = others[0].keys.saturating_add(others[1].keys);
    if keys > 0 {
        let count = others[0].count.saturating_add(others[1].count);
        page.blank();
        page.line(&format!(
            "{} with {} (--top N)",
            more(keys, "finding"),
            many(count, "failure")
        ));
    }
}

fn processes(page: &mut Page<'_>, analysis: &Analysis) {
    let rows = analysis.processes.by_weight();
    if rows.is_empty() {
        return;
    }
    page.heading("programs by failed calls");
    for ((boot, program), row) in rows.iter().take(page.style.top) {
        let mut who = named(program, &row.detail.pids);
        if let Some(host) = analysis.host(*boot) {
            who.push_str(&format!(" on {}", shown(host)));
        }
        let why = reason(&row.detail, analysis);
        page.row(&at_least(row.count, row.is_partial), &who, &why);
    }
    others(page, analysis.processes.others(page.style.top), "program");
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

fn listeners(page: &mut Page<'_>, analysis: &Analysis) {
    let rows = analysis.listeners.by_weight();
    if rows.is_empty() {
        return;
    }
    page.heading("listeners by drops");
    for (key, row) in rows.iter().take(page.style.top) {
        let Listener { times, .. } = &row.detail;
        let text = format!(
            "{}; {}; {}",
            finding::people(&row.detail.who, 1),
            finding::causes(&row.detail),
            page.between(*times)
        );
        let local = shown(&key.local);
        page.row(&at_least(row.count, row.is_partial), &local, &text);
    }
    others(page, analysis.listeners.others(page.style.top), "listener");
}

fn others(page: &mut Page<'_>, others: super::tally::Others, what: &str) {
    if others.keys > 0 {
        page.row(&others.count.to_string(), &more(others.keys, what), "");
    }
}

fn totals(page: &mut Page<'_>, analysis: &Analysis) {
    page.heading(match analysis.is_filtered() {
        true => "totals of the machine, all of the capture, beside the kernel's own",
        false => "totals of the machine beside the kernel's own",
    });
    let Some(totals) = analysis.runs.totals() else {
        page.indented("none: no totals record is in the files");
        return;
    };
    let Totals {
        counted,
        described,
        lost,
        ..
    } = totals;
    let mut text = format!(
        "{counted} counted, {described} described, {lost} lost; {} in these files",
        analysis.events
    );
    if !totals.is_final {
        text.push_str("; the last totals are not final ones");
    }
    page.indented(&text);
    let idle = |row: &Kernel| row.agrees() && row.pairs.iter().all(|pair| pair.tracer == 0);
    let mut rows: Vec<_> = totals.kernel.iter().filter(|row| !idle(row)).collect();
    // What differs comes first.
    rows.sort_by_key(|row| row.agrees());
    for row in rows.iter().take(page.style.top) {
        page.indented(&beside(row));
    }
    let left = rows.len().saturating_sub(page.style.top);
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    let left = left.saturating_add(totals.more);
    if left > 0 {
        page.indented(&more(left, "network namespace"));
    }
    if totals.meanwhile > 0 && rows.iter().any(|row| !row.agrees()) {
        page.indented(&format!(
            "{} drops came while the kernel's counters were being read: a difference up to this says nothing",
            totals.meanwhile
        ));
    }
}

fn beside(row: &Kernel) -> String {
    let labels = ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop"];
    debug_assert_eq!(labels.len(), COUNTERS.len());
    let pairs: Vec<_> = labels
        .iter()
        .zip(row.pairs)
        .map(|(label, pair)| match pair.kernel {
            None => format!("{label} unknown, tracer {}", pair.tracer),
            Some(kernel) if kernel == pair.tracer => format!("{label} {kernel} = {kernel}"),
            Some(kernel) => {
                let difference = i128::from(kernel) - i128::from(pair.tracer);
                format!(
                    "{label} {kernel}, tracer {}, difference {difference:+}",
                    pair.tracer
                )
            }
        })
        .collect();
    let why = row
        .unavailable
        .as_deref()
        .map(|why| format!(" ({})", harmless(why)));
    format!(
        "netns {}: {}{}",
        row.netns,
        pairs.join(", "),
        why.unwrap_or_default()
    )
}

fn not_seen(page: &mut Page<'_>, analysis: &Analysis, notes: &[String]) {
    page.heading("not seen, and why");
    let mut sentences = unseen::sentences(analysis);
    sentences.extend_from_slice(notes);
    for gap in &analysis.gaps {
        sentences.push(format!(
            "{} to {}: {}",
            page.day_and_time(gap.since),
            page.end_time(gap.since, gap.until),
            gap.why
        ));
    }
    if analysis.more_gaps > 0 {
        sentences.push(format!("{} more gaps", analysis.more_gaps));
    }
    if sentences.is_empty() {
        page.indented("nothing that tracer knows of");
    }
    for sentence in sentences {
        page.item("-", &harmless(&sentence));
    }
}

/// A name out of a file as a terminal may have it; sentences are tracer's own
/// and hold names that are printable already.
fn shown(text: &str) -> String {
    printable(text.as_bytes())
}

/// `nginx[812]`
fn name(who: &Who) -> String {
    let comm = shown(&who.comm);
    match (who.kernel, who.pid) {
        (true, 0) => format!("[{comm}] (kernel)"),
        (true, pid) => format!("[{comm}][{pid}] (kernel)"),
        (false, pid) => format!("{comm}[{pid}]"),
    }
}

/// `nginx[812]`, `socat[799,807]`, `curl (1204 processes)`
fn named(program: &Program, pids: &Pids) -> String {
    let comm = program.comm.clone();
    let kernel = program.kernel;
    let (known, others) = pids.known();
    match &known[..] {
        _ if program.is_unknown => "(unknown)".to_owned(),
        [(pid, _)] if others.keys == 0 => name(&Who {
            pid: *pid,
            comm,
            kernel,
        }),
        [_, _] | [_, _, _] if others.keys == 0 => {
            let mut pids: Vec<_> = known.iter().map(|(pid, _)| *pid).collect();
            pids.sort_unstable();
            let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
            format!("{}[{}]", shown(&comm), pids.join(","))
        }
        _ => format!("{} ({} processes)", shown(&comm), pids.processes()),
    }
}

/// `1 failure`, `2 failures`, `2 censuses`
pub(super) fn many(count: u64, what: &str) -> String {
    match (count, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (_, false) => format!("{count} {what}s"),
        (_, true) => format!("{count} {what}es"),
    }
}

/// `1 more finding`, `2 more findings`
fn more(count: u64, what: &str) -> String {
    many(count, what).replacen(' ', " more ", 1)
}

fn at_least(count: u64, is_partial: bool) -> String {
    match is_partial {
        true => format!("≥{count}"),
        false => count.to_string(),
    }
}

/// `5.1 s`, `40 min 12 s`, `3 d 4 h`
fn seconds(first: Timestamp, last: Timestamp) -> String {
    let ms = last.duration_since(first).as_millis().unsigned_abs();
    let seconds = ms / 1000;
    let text = match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms / 100 % 10),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    };
    text.replace(' ', TIE)
}

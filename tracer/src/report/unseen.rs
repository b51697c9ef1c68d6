//! What does the report not know, and why? As sentences; they hold text of the
//! files, which has to be made printable.

use super::{analyse::Analysis, words::many};

pub(super) fn sentences(analysis: &Analysis) -> Vec<String> {
    let mut sentences = Vec::new();
    for run in &analysis.runs.told {
        for degradation in &run.degradations {
            if !sentences.contains(degradation) {
                sentences.push(degradation.clone());
            }
        }
    }
    if analysis.lost > 0 {
        sentences.push(format!(
            "{} counted, but not described: too many at once",
            many(analysis.lost, "failure")
        ));
    }
    totals(analysis, &mut sentences);
    for (why, row) in analysis.no_census.by_weight() {
        let censuses = many(row.count, "census");
        sentences.push(format!("{censuses} could not be taken: {why}"));
    }
    skipped(analysis, &mut sentences);
    if analysis.runs.more > 0 {
        let more = many(analysis.runs.more, "run");
        sentences.push(format!("{more} more than can be told one by one"));
    }
    let let_go = [
        (analysis.calls.let_go_of(), "finding"),
        (analysis.listeners.let_go_of(), "listener"),
        (analysis.processes.let_go_of(), "program"),
    ];
    for (count, what) in let_go.into_iter().filter(|(count, _)| *count > 0) {
        let what = many(count, what);
        sentences.push(format!(
            "{what} with few failures each: too many to remember, they are in the sums only; counts with ≥ may have lost some of theirs to them"
        ));
    }
    sentences
}

fn totals(analysis: &Analysis, sentences: &mut Vec<String>) {
    let Some(totals) = analysis.runs.totals() else {
        return;
    };
    let counts = [
        (totals.malformed, "description", "that could not be decoded"),
        (
            totals.unplaced,
            "failure",
            "counted for no namespace: the table was full",
        ),
        (totals.unjudged, "SYN", "without a verdict"),
    ];
    for (count, what, why) in counts {
        if count > 0 {
            sentences.push(format!("{} {why}", many(count, what)));
        }
    }
    let shown = totals.described.saturating_add(totals.summed);
    let absent = shown.saturating_sub(analysis.events);
    if absent > 0 {
        sentences.push(format!(
            "{} described, but not in these files: filtered when it was recorded, or in a file that is not here",
            many(absent, "failure")
        ));
    }
}

fn skipped(analysis: &Analysis, sentences: &mut Vec<String>) {
    let skipped = &analysis.skipped;
    let counts = [
        (skipped.not_json, "that are no JSON objects"),
        (
            skipped.not_understood,
            "without a time, kind or cause that this tracer knows",
        ),
        (skipped.newer, "of a schema that this tracer does not know"),
    ];
    for (count, why) in counts {
        if count > 0 {
            sentences.push(format!("{} skipped, {why}", many(count, "record")));
        }
    }
    for (name, row) in skipped.types.by_weight() {
        let count = many(row.count, "record");
        sentences.push(format!("{count} skipped, of the unknown type \"{name}\""));
    }
    if skipped.types.let_go_of() > 0 {
        let count = many(skipped.types.others(usize::MAX).count, "record");
        sentences.push(format!("{count} skipped, of other unknown types"));
    }
}

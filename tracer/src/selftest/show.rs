//! The table and its verdict, for people and as JSON (docs/selftest.md).

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Outcome,
    actor::Who,
    judge::{Known, Row, Verdict},
    scenes::NOT_PLAYED,
    stage::Evidence,
};
use crate::{
    cli::Format,
    output::{
        print,
        words::{cause, what},
    },
};

/// Version of the records.
const VERSION: u32 = 1;

/// Writes it to standard output.
///
/// # Errors
/// That cannot be written. A closed standard output is no error: nobody reads on.
pub(super) fn show(format: Format, outcome: &Outcome) -> anyhow::Result<()> {
    Ok(match format {
        Format::Text => print::whole(&table(outcome)),
        Format::Json => print::json(&records(outcome, Timestamp::now())),
    }?)
}

/// Writing to a String cannot fail.
macro_rules! line {
    ($text:expr, $($rest:tt)*) => { let _ = writeln!($text, $($rest)*); };
}

fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    line!(
        text,
        "tracer {} on {}: each failure in a network namespace of its own; nothing else is touched",
        env!("CARGO_PKG_VERSION"),
        outcome.startup.kernel
    );
    line!(
        text,
        "{:<36} {:>8}  {:<38} {:>7} {:>5}  {:<22} RESULT",
        "PROVOKED",
        "TIMES",
        "CONFIRMED BY",
        "COUNTED",
        "SHOWN",
        "NAMED"
    );
    for row in &outcome.rows {
        let name = name(row);
        match &row.verdict {
            Verdict::NotShown(why) => {
                line!(text, "{name:<36} {:>8}  {why}", "-");
            }
            verdict => {
                let result = match verdict {
                    Verdict::Wrong(_) => "WRONG",
                    _ if row.is_near_miss() => "ok (near)",
                    _ => "ok",
                };
                line!(
                    text,
                    "{name:<36} {:>8}  {:<38} {:>7} {:>5}  {:<22} {result}",
                    row.provoked,
                    row.known
                        .as_ref()
                        .map(|known| confirmed(row, known))
                        .unwrap_or_default(),
                    row.counted,
                    row.described,
                    row.named.as_ref().map(shown).unwrap_or_default(),
                );
            }
        }
        if let Verdict::Wrong(sentences) = &row.verdict {
            for sentence in sentences {
                line!(text, "    {sentence}");
            }
        }
    }
    for (kind, why_not, reason) in NOT_PLAYED {
        let name = format!("{}, {}", what(*kind), cause(*why_not));
        line!(text, "{name:<36} {:>8}  {reason}", "-");
    }
    line!(text, "{}", verdict(outcome));
    text
}

/// The one line.
fn verdict(outcome: &Outcome) -> String {
    let (right, wrong) = (outcome.right(), outcome.wrong());
    let missing = outcome.rows.len() - right - wrong;
    let rest = match missing {
        0 => String::new(),
        _ => format!("; {missing} cannot be shown here"),
    };
    match (right, wrong) {
        (0, 0) => "selftest: nothing could be shown here".into(),
        (_, 0) => {
            let exactly = match outcome.near() {
                0 => "counted as the kernel counted".to_owned(),
                near => format!(
                    "{} counted as the kernel counted, {near} nearly",
                    right - near
                ),
            };
            format!("selftest: ok: all {right} seen, laid to the right process, {exactly}{rest}")
        }
        _ => format!("selftest: WRONG: {wrong} of {}{rest}", right + wrong),
    }
}

fn name(row: &Row) -> String {
    if row.is_about_closers {
        return "TIME_WAIT ports, by who closed them".into();
    }
    format!("{}, {}", what(row.kind), cause(row.cause))
}

/// What tells that it happened, besides tracer.
fn confirmed(row: &Row, known: &Known) -> String {
    if row.is_about_closers {
        return format!("{} sockets in TIME_WAIT", row.provoked);
    }
    match known.evidence {
        Evidence::Calls(times, errno) => format!("{errno} {times}"),
        Evidence::Counters => {
            let counters = [
                ("ListenDrops", known.counters.listen_drops),
                ("ListenOverflows", known.counters.listen_overflows),
                ("TCPReqQFullDrop", known.counters.req_qfull_drop),
            ];
            let counters = counters.iter().filter(|(_, count)| *count > 0);
            let counters: Vec<_> = counters
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            counters.join(", ")
        }
    }
}

fn shown(who: &Who) -> String {
    format!("{}[{}]", who.comm, who.pid)
}

fn records(outcome: &Outcome, time: Timestamp) -> String {
    let mut text = String::new();
    let time = format!("{time:.6}");
    for row in &outcome.rows {
        line!(text, "{}", record(row, &time));
    }
    for (kind, cause, reason) in NOT_PLAYED {
        let record = json!({
            "v": VERSION,
            "type": "selftest",
            "time": time,
            "kind": kind.name(),
            "cause": cause.name(),
            "about": "failure",
            "result": "not_shown",
            "reasons": [reason],
        });
        line!(text, "{record}");
    }
    let (right, wrong) = (outcome.right(), outcome.wrong());
    let end = json!({
        "v": VERSION,
        "type": "selftest_end",
        "time": time,
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": outcome.startup.kernel,
        "result": if outcome.is_good() { "ok" } else { "wrong" },
        "right": right,
        "near": outcome.near(),
        "wrong": wrong,
        "not_shown": outcome.rows.len() - right - wrong + NOT_PLAYED.len(),
        "degradations": outcome.startup.degradations,
        "text": verdict(outcome),
    });
    line!(text, "{end}");
    text
}

fn record(row: &Row, time: &str) -> Value {
    let (result, reasons) = match &row.verdict {
        Verdict::Right => ("ok", Vec::new()),
        Verdict::Wrong(sentences) => ("wrong", sentences.clone()),
        Verdict::NotShown(why) => ("not_shown", vec![why.clone()]),
    };
    let known = row.known.as_ref();
    let who = |who: &Who| json!({ "pid": who.pid, "comm": who.comm });
    let errno = known.and_then(|known| match known.evidence {
        Evidence::Calls(_, errno) => Some(errno),
        Evidence::Counters => None,
    });
    json!({
        "v": VERSION,
        "type": "selftest",
        "time": time,
        "kind": row.kind.name(),
        "cause": row.cause.name(),
        "about": if row.is_about_closers { "closers" } else { "failure" },
        "result": result,
        "reasons": reasons,
        "tier": row.tier,
        "exactness": row.exactness,
        "netns": known.map(|known| known.netns),
        "provoked": row.provoked,
        "errno": errno,
        "kernel": known.map(|known| json!({
            "listen_overflows": known.counters.listen_overflows,
            "listen_drops": known.counters.listen_drops,
            "tcp_req_qfull_drop": known.counters.req_qfull_drop,
        })),
        "counted": row.counted,
        "described": row.described,
        "process": known.map(|known| match &known.ports {
            Some((_, _, closer)) if row.is_about_closers => who(closer),
            _ => who(&known.blamed),
        }),
        "named": row.named.as_ref().map(who),
    })
}

//! How are counts, names and spans of time put, in text and in HTML alike?

use jiff::Timestamp;

use super::{
    crowd::{Crowd, Pids, Program},
    record::Who,
    timeline::Axis,
};
use crate::output::sanitize::printable;

/// A blank at which no line is broken.
pub(super) const TIE: &str = "\u{a0}";

/// A name out of a file as a terminal may have it; sentences are tracer's own
/// and hold names that are printable already.
pub(super) fn shown(text: &str) -> String {
    printable(text.as_bytes())
}

/// `nginx[812]`
pub(super) fn name(who: &Who) -> String {
    let comm = shown(&who.comm);
    match (who.kernel, who.pid) {
        (true, 0) => format!("[{comm}] (kernel)"),
        (true, pid) => format!("[{comm}][{pid}] (kernel)"),
        (false, pid) => format!("{comm}[{pid}]"),
    }
}

/// `nginx[812]`, `socat[799,807]`, `curl (1204 processes)`
pub(super) fn named(program: &Program, pids: &Pids) -> String {
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

/// The heaviest by name, the others as a number.
pub(super) fn people(crowd: &Crowd, most: usize) -> String {
    let rows = crowd.0.by_weight();
    let shown = rows.iter().take(most);
    let names: Vec<_> = shown
        .map(|(program, row)| named(program, &row.detail))
        .collect();
    match crowd.0.others(most).keys {
        0 => names.join(", "),
        others => format!("{} +{others}", names.join(", ")),
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
pub(super) fn more(count: u64, what: &str) -> String {
    many(count, what).replacen(' ', " more ", 1)
}

pub(super) fn at_least(count: u64, is_partial: bool) -> String {
    match is_partial {
        true => format!("≥{count}"),
        false => count.to_string(),
    }
}

/// A file may hold any number.
pub(super) fn rate(per_second: f64) -> String {
    match per_second.abs() {
        0.0..1e9 => format!("{per_second:.1}"),
        _ => format!("{per_second:e}"),
    }
}

/// `5.1 s`, `40 min 12 s`, `3 d 4 h`
pub(super) fn seconds(first: Timestamp, last: Timestamp) -> String {
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

/// What a chart is.
pub(super) fn timeline(axis: &Axis) -> String {
    format!("timeline, {} a bar", step(axis.width_ms))
}

/// A bar's width: `500 ms`, `5 s`, `15 min`, `3 h`, `7 d`
pub(super) fn step(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        3_600_000..86_400_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

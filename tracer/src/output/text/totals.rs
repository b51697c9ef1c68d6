//! Totals as lines for people.

use std::{cmp::Reverse, fmt::Write};

use super::{cause, name, numbered, what};
use crate::{
    reconcile::{Pair, Row},
    record::{By, Listener, Totals},
};

/// What was counted, and the kernel's own counters beside it.
pub(in crate::output) fn totals(totals: &Totals) -> String {
    let health = totals.health;
    let seconds = totals.time.duration_since(totals.since).as_secs_f64();
    let mut text = format!(
        "-- totals of {seconds:.1} s: {} counted, {} described",
        health.counted, health.described
    );
    if health.filtered > 0 {
        let _ = write!(
            text,
            ", {} left out by filters (totals are of the whole machine)",
            health.filtered
        );
    }
    if health.summed > 0 {
        let _ = write!(text, ", {} in sums (too many at once)", health.summed);
    }
    if health.lost() > 0 {
        let _ = write!(text, ", {} lost (counted, too many at once)", health.lost());
    }
    if health.unattributed > 0 {
        let _ = write!(
            text,
            ", {} not attributed (table full)",
            health.unattributed
        );
    }
    if totals.malformed > 0 {
        let _ = write!(text, ", {} not understood", totals.malformed);
    }
    if health.unplaced > 0 {
        let _ = write!(text, ", {} in no namespace (table full)", health.unplaced);
    }
    for missed in &totals.missed {
        let _ = write!(
            text,
            ", {} runs of hooks left out by the kernel ({} is not exact)",
            missed.runs,
            missed.purpose.name()
        );
    }
    if health.unjudged > 0 {
        let _ = write!(text, ", {} SYNs without a verdict", health.unjudged);
    }
    text.push('\n');
    text.push_str(&parties(totals));
    let is_fine = |row: &Row| row.agrees() && row.unavailable.is_none();
    let (rows, left_out) = foremost(&totals.rows, |row| is_fine(row));
    for row in rows {
        text.push_str(&reconciled(row, totals));
    }
    if !left_out.is_empty() {
        let count = left_out.len();
        let fine = left_out.iter().filter(|row| is_fine(row)).count();
        let _ = writeln!(
            text,
            "   kernel's own, of {count} more network namespaces: {fine} agree",
        );
    }
    if totals.meanwhile > 0 && !totals.rows.iter().all(Row::agrees) {
        let _ = writeln!(
            text,
            "   {} drops were counted while the kernel's counters were being read",
            totals.meanwhile
        );
    }
    text
}

/// Who failed how often; without that, as in old captures, where.
fn parties(totals: &Totals) -> String {
    let mut text = String::new();
    let mut line = |count: u64, kind, why, whose: String| {
        let label = format!("{}, {}", what(kind), cause(why));
        let _ = writeln!(text, "   {count:>9}  {label:<36} {}", whose.trim_end());
    };
    let mut sum_left_out = None;
    if totals.by.is_empty() {
        let (counts, left_out) = foremost(&totals.counts, |(_, count)| Reverse(**count));
        for ((netns, kind, why), count) in counts {
            line(*count, *kind, *why, numbered(*netns, totals));
        }
        if !left_out.is_empty() {
            let sum = left_out.iter().map(|(_, count)| **count).sum::<u64>();
            sum_left_out = Some((sum, left_out.len()));
        }
    } else {
        let (by, left_out) = foremost(&totals.by, |by| Reverse(by.counted));
        for one in by {
            let whose = format!("{}  {}", party(one), numbered(one.netns, totals));
            line(one.counted, one.kind, one.cause, whose);
        }
        if !left_out.is_empty() {
            let sum = left_out.iter().map(|by| by.counted).sum::<u64>();
            sum_left_out = Some((sum, left_out.len()));
        }
    }
    if let Some((sum, rows)) = sum_left_out {
        let _ = writeln!(text, "   {sum:>9}  in {rows} more rows like these");
    }
    text
}

/// `checkout[888]`, `10.9.0.2:8080 of api[631]`
fn party(by: &By) -> String {
    let process = by.process.as_ref().map(name);
    match &by.listener {
        Some(Listener { local, inode }) => {
            let listener = match local {
                Some(local) => local.to_string(),
                None => format!("socket:[{inode}]"),
            };
            match process {
                Some(process) => format!("{listener} of {process}"),
                None => listener,
            }
        }
        None => process.unwrap_or_else(|| "(not attributed)".to_owned()),
    }
}

/// So many rows of each part of the totals are shown: a machine may have thousands of
/// network namespaces. As JSON all are.
const TOTALS: usize = 24;

/// All as they are; or if they are too many those with the smallest keys, and the rest.
fn foremost<T, K: Ord>(
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, Vec<T>) {
    let mut shown: Vec<T> = all.into_iter().collect();
    if shown.len() <= TOTALS {
        return (shown, Vec::new());
    }
    shown.sort_by_key(key);
    let rest = shown.split_off(TOTALS);
    (shown, rest)
}

fn reconciled(row: &Row, totals: &Totals) -> String {
    let counters = [
        ("ListenOverflows", row.listen_overflows),
        ("ListenDrops", row.listen_drops),
        ("TCPReqQFullDrop", row.req_qfull_drop),
    ];
    let shown: Vec<_> = counters
        .iter()
        .map(|(name, pair)| format!("{name} {}", beside(*pair)))
        .collect();
    let why = row
        .unavailable
        .as_ref()
        .or(row.explanation.as_ref())
        .map(|why| format!(" ({why})"))
        .unwrap_or_default();
    format!(
        "   kernel's own, {}: {}{why}\n",
        numbered(row.netns, totals),
        shown.join(", ")
    )
}

/// `24 = 24`, or `24, tracer 23, difference +1`.
fn beside(pair: Pair) -> String {
    match (pair.kernel, pair.difference()) {
        (Some(kernel), Some(0)) => format!("{kernel} = {}", pair.tracer),
        (Some(kernel), Some(difference)) => {
            format!(
                "{kernel}, tracer {}, difference {difference:+}",
                pair.tracer
            )
        }
        _ => format!("unknown, tracer {}", pair.tracer),
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::{Cause, Kind};

    use super::*;
    use crate::model::Netns;

    #[test]
    fn differences_are_shown() {
        let pair = |tracer, kernel| beside(Pair { tracer, kernel });
        assert_eq!(pair(5, Some(5)), "5 = 5");
        assert_eq!(pair(5, Some(7)), "7, tracer 5, difference +2");
        assert_eq!(pair(5, Some(4)), "4, tracer 5, difference -1");
        assert_eq!(pair(5, None), "unknown, tracer 5");
    }

    #[test]
    fn a_thousand_namespaces_are_no_thousand_lines() {
        let pair = |tracer, kernel| Pair {
            tracer,
            kernel: Some(kernel),
        };
        let row = |netns: u32| Row {
            netns: Netns {
                inum: netns,
                cookie: 0,
            },
            listen_overflows: pair(1, if netns == 999 { 2 } else { 1 }),
            listen_drops: pair(1, 1),
            req_qfull_drop: pair(0, 0),
            unavailable: None,
            explanation: None,
        };
        let count = |netns: u32| {
            let life = Netns {
                inum: netns,
                cookie: 0,
            };
            let key = (life, Kind::SynDropped, Cause::AcceptQueueFull);
            (key, u64::from(netns))
        };
        let totals = Totals {
            rows: (1..1000).map(row).collect(),
            counts: (1..1000).map(count).collect(),
            ..Totals::example()
        };
        let shown = super::totals(&totals);
        assert!(shown.lines().count() < 60, "{shown}");
        // What differs is shown, however late it comes.
        assert!(shown.contains("netns 999: ListenOverflows"), "{shown}");
        assert!(shown.contains("      999  "), "{shown}");
        assert!(shown.contains("in 975 more rows like these"), "{shown}");
        assert!(
            shown.contains("of 975 more network namespaces: 975 agree"),
            "{shown}"
        );
    }
}

//! Totals as lines for people.

use std::{cmp::Reverse, fmt::Write};

use super::{cause, numbered, what};
use crate::{
    reconcile::{Pair, Row},
    record::Totals,
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
    if health.lost() > 0 {
        let _ = write!(text, ", {} lost (counted, too many at once)", health.lost());
    }
    if totals.malformed > 0 {
        let _ = write!(text, ", {} not understood", totals.malformed);
    }
    if health.unplaced > 0 {
        let _ = write!(text, ", {} in no namespace (table full)", health.unplaced);
    }
    if health.unjudged > 0 {
        let _ = write!(text, ", {} SYNs without a verdict", health.unjudged);
    }
    text.push('\n');
    let (counts, left_out) = foremost(&totals.counts, |(_, count)| Reverse(**count));
    for ((netns, kind, why), count) in counts {
        let label = format!("{}, {}", what(*kind), cause(*why));
        let place = numbered(*netns, totals);
        let _ = writeln!(text, "   {count:>9}  {label:<36} {place}");
    }
    if !left_out.is_empty() {
        let sum: u64 = left_out.iter().map(|(_, count)| **count).sum();
        let _ = writeln!(
            text,
            "   {sum:>9}  in {} more rows like these",
            left_out.len()
        );
    }
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
            netns,
            listen_overflows: pair(1, if netns == 999 { 2 } else { 1 }),
            listen_drops: pair(1, 1),
            req_qfull_drop: pair(0, 0),
            unavailable: None,
        };
        let count = |netns: u32| {
            let key = (netns, Kind::SynDropped, Cause::AcceptQueueFull);
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

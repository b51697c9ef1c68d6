//! Do tracer's totals agree with the kernel's own counters?

use super::super::{
    analyse::Analysis,
    runs::{COUNTERS, Kernel, Pair, Totals},
    words::more,
};
use crate::output::sanitize::harmless;

/// What the kernel calls its counters.
const LABELS: [&str; COUNTERS.len()] = ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop"];

/// Totals beside the kernel's.
#[derive(Debug)]
pub(in crate::report) struct Compared {
    pub(in crate::report) heading: &'static str,
    pub(in crate::report) sum: String,
    /// What differs comes first.
    pub(in crate::report) rows: Vec<Beside>,
    pub(in crate::report) remarks: Vec<String>,
}

/// One network namespace.
#[derive(Debug)]
pub(in crate::report) struct Beside {
    pub(in crate::report) netns: u64,
    pub(in crate::report) pairs: Vec<(&'static str, Pair)>,
    /// Why the kernel's counters are unknown.
    pub(in crate::report) why: Option<String>,
}

impl Beside {
    fn of(row: &Kernel) -> Self {
        Self {
            netns: row.netns,
            pairs: LABELS.into_iter().zip(row.pairs).collect(),
            why: row.unavailable.as_deref().map(harmless),
        }
    }
}

pub(super) fn tell(analysis: &Analysis, top: usize) -> Compared {
    let mut told = Compared {
        heading: match analysis.is_filtered() {
            true => "totals of the machine, all of the capture, beside the kernel's own",
            false => "totals of the machine beside the kernel's own",
        },
        sum: "none: no totals record is in the files".to_owned(),
        rows: Vec::new(),
        remarks: Vec::new(),
    };
    let Some(totals) = analysis.runs.totals() else {
        return told;
    };
    let Totals {
        counted,
        described,
        summed,
        lost,
        filtered,
        ..
    } = totals;
    told.sum = format!(
        "{counted} counted, {described} described, {lost} lost; {} in these files",
        analysis.events
    );
    if summed > 0 {
        told.sum
            .push_str(&format!("; {summed} of them as sums, too many at once"));
    }
    if filtered > 0 {
        let left_out = format!("; filters of the recording left out {filtered}");
        told.sum.push_str(&left_out);
    }
    if !totals.is_final {
        told.sum.push_str("; the last totals are not final ones");
    }
    let idle = |row: &Kernel| row.agrees() && row.pairs.iter().all(|pair| pair.tracer == 0);
    let mut rows: Vec<_> = totals.kernel.iter().filter(|row| !idle(row)).collect();
    rows.sort_by_key(|row| row.agrees());
    told.rows = rows.iter().take(top).map(|row| Beside::of(row)).collect();
    let left = rows.len().saturating_sub(top);
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    let left = left.saturating_add(totals.more);
    if left > 0 {
        told.remarks.push(more(left, "network namespace"));
    }
    if totals.meanwhile > 0 && rows.iter().any(|row| !row.agrees()) {
        told.remarks.push(format!(
            "{} drops came while the kernel's counters were being read: a difference up to this says nothing",
            totals.meanwhile
        ));
    }
    told
}

//! Records as text, for fuzzing.

use super::text::{self, Style};
use crate::replay::parse::Record;

/// What is shown of a record, on standard error or standard output.
pub(crate) fn text(record: &Record) -> String {
    let style = Style::detect(false);
    match record {
        Record::Startup(startup) => text::startup(startup, true),
        Record::Failure(failure) => style.failure(failure),
        Record::Census(census) => style.census(census),
        Record::NoCensus(_, _, _, why) => why.clone(),
        Record::Queue(finding) => style.queue(finding),
        Record::Totals(totals) => text::totals(totals),
        Record::Gap(_, gap) => style.gap(gap),
        Record::Lost(..) | Record::End => String::new(),
    }
}

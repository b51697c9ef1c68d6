//! Records as text, for fuzzing.

use super::text::{self, Style};
use crate::record::Record;

/// What is shown of a record, on standard error or standard output.
pub(crate) fn text(record: Record<'_>) -> String {
    match record {
        Record::Startup(startup) => text::startup(startup, true),
        other => Style::detect(false).record(other),
    }
}

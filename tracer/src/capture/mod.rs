//! The capture file: what was seen, kept for later. docs/capture.md describes it.
//!
//! Lines go into a [`queue`], become [`frame`]s on a thread of their own
//! ([`write`]), and land in a [`file`], of which [`rotate`] may make several.

mod file;
mod frame;
mod queue;
pub(crate) mod rotate;
pub(crate) mod write;

use jiff::Timestamp;

/// Records that are not in the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// When the first of them was to be written.
    pub(crate) since: Timestamp,
    pub(crate) records: u64,
    pub(crate) reason: String,
}

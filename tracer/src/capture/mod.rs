//! The capture file: what was seen, kept for later. docs/capture.md describes it.
//!
//! Lines go into a [`queue`], become [`frame`]s on a thread of their own
//! ([`mod@write`]), and land in a [`mod@file`], of which [`rotate`] may make several. [`read`] and [`files`] read them.

mod damage;
mod file;
pub(crate) mod files;
mod frame;
mod queue;
pub(crate) mod read;
pub(crate) mod rotate;
pub(crate) mod write;

pub(crate) use file::open as create;
use jiff::Timestamp;

/// Records that are not in the capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// When the first of them was to be written.
    pub(crate) since: Timestamp,
    pub(crate) records: u64,
    pub(crate) reason: String,
}

//! Capture files: records in zstd frames, see docs/capture.md.

mod damage;
pub(crate) mod files;
pub(crate) mod read;

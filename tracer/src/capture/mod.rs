//! Capture files: records in zstd frames, see docs/capture.md.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the verbs that read come with the next commits")
)]
pub(crate) mod read;

//! What to do about a finding. Pure.

use super::finding::{Advice, Census, QueueFinding};

/// One to three pieces, the most useful first.
pub(crate) fn on_census(_census: &Census) -> Vec<Advice> {
    Vec::new()
}

/// One to three pieces, the most useful first.
pub(crate) fn on_queue(_finding: &QueueFinding) -> Vec<Advice> {
    Vec::new()
}

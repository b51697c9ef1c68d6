//! What was skipped before? The holders of a listener are half of a line, and those
//! of the next line as a rule: it is faster to compare them than to read them.

use std::collections::VecDeque;

/// Texts that are kept, and their longest.
const TEXTS: usize = 8;
const LONGEST: usize = 64 * 1024;

/// Texts of arrays.
#[derive(Debug, Default)]
pub(crate) struct Skipped(VecDeque<Box<str>>);

impl Skipped {
    /// How much of `text` is such an array.
    pub(super) fn length(&self, text: &str) -> Option<usize> {
        let found = self.0.iter().find(|known| text.starts_with(&***known));
        found.map(|known| known.len())
    }

    /// Keeps an array; the oldest goes.
    pub(super) fn keep(&mut self, array: &str) {
        if array.len() <= LONGEST {
            self.0.truncate(TEXTS - 1);
            self.0.push_front(array.into());
        }
    }
}

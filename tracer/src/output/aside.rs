//! What is said while the screen is taken: kept, shown there, and said aloud
//! when the screen is free again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many lines are kept; the oldest make room.
const KEPT: usize = 200;

#[derive(Default)]
struct Aside {
    /// All that was said, to be said again.
    said: VecDeque<String>,
    /// How many of the last ones have not been shown.
    new: usize,
}

/// `None`: the screen is free.
static ASIDE: Mutex<Option<Aside>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Aside>> {
    ASIDE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on nothing goes to standard error.
pub(crate) fn begin() {
    lock().get_or_insert_default();
}

/// Keeps a line, if that is what is wanted now.
pub(super) fn keep(line: &str) -> bool {
    let mut aside = lock();
    let Some(aside) = aside.as_mut() else {
        return false;
    };
    if aside.said.len() >= KEPT {
        aside.said.pop_front();
    }
    aside.said.push_back(line.to_owned());
    aside.new = (aside.new + 1).min(KEPT);
    true
}

/// What was said since the last time.
pub(crate) fn take() -> Vec<String> {
    let mut aside = lock();
    let Some(aside) = aside.as_mut() else {
        return Vec::new();
    };
    let old = aside
        .said
        .len()
        .saturating_sub(std::mem::take(&mut aside.new));
    aside.said.iter().skip(old).cloned().collect()
}

/// The screen is free: says everything that was kept.
pub(crate) fn end() {
    let aside = lock().take();
    for line in aside.into_iter().flat_map(|aside| aside.said) {
        super::say(&line);
    }
}

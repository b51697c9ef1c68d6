//! What to do about a finding? Pure: a finding in, one to three pieces out.
//!
//! Each piece comes from a rule. A rule speaks only where what it says is true
//! of this kernel with these settings and would change something; docs/advice.md
//! says of each when that is, and why.

mod ports;
mod queues;
#[cfg(test)]
pub(crate) mod tests;
mod wording;

use std::cmp::Reverse;

use super::finding::{Advice, Census, QueueFinding};

/// More than this nobody reads.
const MOST: usize = 3;

/// One thing that can be said about a `T`.
struct Rule<T> {
    /// Stable, and a heading of docs/advice.md.
    id: &'static str,
    /// `None`: it does not apply.
    says: fn(&T) -> Option<Piece>,
}

/// What a rule says.
struct Piece {
    text: String,
    /// Ports that it would set free, as far as that can be told. What frees more
    /// comes first.
    frees: u32,
}

impl Piece {
    fn freeing(ports: u32, text: String) -> Option<Self> {
        Some(Self { text, frees: ports })
    }

    /// A remedy that does not go for particular sockets.
    fn general(text: String) -> Option<Self> {
        Self::freeing(0, text)
    }
}

/// The most useful first.
pub(crate) fn on_census(census: &Census) -> Vec<Advice> {
    pick(ports::RULES, census)
}

/// The most useful first.
pub(crate) fn on_queue(finding: &QueueFinding) -> Vec<Advice> {
    pick(queues::RULES, finding)
}

/// Among pieces that free equally many ports the order of the rules decides.
fn pick<T>(rules: &[Rule<T>], finding: &T) -> Vec<Advice> {
    let mut pieces: Vec<_> = rules
        .iter()
        .filter_map(|rule| Some((rule.id, (rule.says)(finding)?)))
        .collect();
    pieces.sort_by_key(|(_, piece)| Reverse(piece.frees));
    let pieces = pieces.into_iter().take(MOST);
    pieces
        .map(|(id, Piece { text, .. })| {
            let id = id.into();
            Advice { id, text }
        })
        .collect()
}

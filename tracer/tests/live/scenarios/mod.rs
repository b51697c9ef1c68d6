//! Everything that can go wrong with a connection's beginning, provoked.

mod ack;
mod bind;
mod census;
mod connect;
mod connect_paths;
mod finding;
mod listen;
mod nothing;
mod queue;
mod who;

use crate::case::Scenario;

/// All scenarios, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    [
        connect::ALL,
        connect_paths::ALL,
        bind::ALL,
        listen::ALL,
        queue::ALL,
        ack::ALL,
        census::ALL,
        finding::ALL,
        who::ALL,
        nothing::ALL,
    ]
    .concat()
}

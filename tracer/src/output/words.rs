//! What records call by a name, in words for people.

use tracer_common::Cause;

pub(crate) use super::{
    sanitize::{harmless, printable},
    text::{
        addresses, cause,
        findings::{
            accepts, disagreement, drops, ghosts, headline, holders, how_bound_were_found, owner,
        },
        name, process, queues,
        snapshot::state,
        what,
    },
};
use crate::explain::finding::PortState;

/// A state of ports by its name in records.
pub(crate) fn state_named(name: &str) -> Option<&'static str> {
    let states = [
        PortState::Established,
        PortState::CloseWait,
        PortState::SynSent,
        PortState::SynRecv,
        PortState::Closing,
        PortState::TimeWait,
        PortState::Listening,
        PortState::BoundUnused,
        PortState::BoundElsewhere,
    ];
    let found = states.into_iter().find(|state| state.name() == name);
    found.map(state)
}

/// Whether a census can explain it.
pub(crate) fn is_about_ports(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::PortsExhausted | Cause::AddressTaken | Cause::PortInUse
    )
}

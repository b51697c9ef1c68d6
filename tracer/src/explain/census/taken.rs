//! What does a socket take its port for, and whose way does it stand in?
//!
//! What takes a port depends on who asks (kernel-side: `__inet_hash_connect`
//! and `inet_csk_get_port`):
//!
//! * `connect()` cannot use a port that anybody bound with `bind()`, listeners
//!   included; of all other ports only those on which the same source already
//!   has a connection, or a `TIME_WAIT`, to the same destination.
//! * `bind()` cannot use a port on which any socket has the same local address,
//!   or either address is the wildcard.

use std::net::IpAddr;

use tracer_common::{Cause, Kind};

use super::Scope;
use crate::{
    explain::finding::PortState,
    host::sock_diag::{Row, state},
};

/// What `row` takes its port for, if it stands in the way of `scope`.
pub(super) fn taken_by(scope: &Scope, row: &Row) -> Option<PortState> {
    if scope.kind == Kind::ConnectFailed {
        taken_from_connect(scope, row)
    } else {
        taken_from_bind(scope, row)
    }
}

fn taken_from_connect(scope: &Scope, row: &Row) -> Option<PortState> {
    let is_same_connection = scope.destination == Some(row.remote)
        && scope.source.is_none_or(|source| source == row.local.ip());
    if is_same_connection {
        return state_of(row);
    }
    if scope.cause == Cause::AddressTaken {
        return None;
    }
    match state_of(row)? {
        bound @ (PortState::Listening | PortState::BoundUnused) => Some(bound),
        // The search failed, so something takes this port, and nothing of this
        // destination's is on it: it was bound before it was connected.
        _ if scope.cause == Cause::PortsExhausted => Some(PortState::BoundElsewhere),
        _ => None,
    }
}

fn taken_from_bind(scope: &Scope, row: &Row) -> Option<PortState> {
    let is_in_the_way = scope
        .source
        .is_none_or(|source| overlap(source, row.local.ip()));
    is_in_the_way.then(|| state_of(row)).flatten()
}

/// Whether two local addresses exclude each other on one port: if they are
/// equal, or one is the wildcard. The IPv6 wildcard takes IPv4 with it (unless
/// `IPV6_V6ONLY` is set, which is not known here).
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one == other || covers(one, other) || covers(other, one)
}

/// What a socket takes its port for.
pub(crate) fn state_of(row: &Row) -> Option<PortState> {
    Some(match row.state {
        state::ESTABLISHED => PortState::Established,
        state::CLOSE_WAIT => PortState::CloseWait,
        state::SYN_SENT => PortState::SynSent,
        state::SYN_RECV => PortState::SynRecv,
        state::TIME_WAIT => PortState::TimeWait,
        state::LISTEN => PortState::Listening,
        state::BOUND_INACTIVE => PortState::BoundUnused,
        // An unconnected UDP socket; a TCP socket is not listed in this state.
        state::CLOSE => PortState::BoundUnused,
        // FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK.
        4 | 5 | 9 | 11 => PortState::Closing,
        _ => return None,
    })
}

impl PortState {
    /// Which state a port is said to be in when its sockets are in several.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Listening => 0,
            Self::BoundUnused => 1,
            Self::Established => 2,
            Self::CloseWait => 3,
            Self::SynSent => 4,
            Self::SynRecv => 5,
            Self::Closing => 6,
            Self::TimeWait => 7,
            Self::BoundElsewhere => 8,
        }
    }

    pub(super) fn min_by_rank(self, other: Self) -> Self {
        if other.rank() < self.rank() {
            other
        } else {
            self
        }
    }
}

//! What to do when ports have run out, or one port is taken?

mod more;
mod one;
mod states;
mod time_wait;

use tracer_common::{Cause, Kind};

use super::{Piece, Rule};
use crate::explain::finding::{Census, Part, PortState};

/// In this order where they would free equally many ports.
pub(super) const RULES: &[Rule<Census>] = &[
    // One port.
    rule("let-connect-choose", one::let_connect_choose),
    rule("port-owner", one::port_owner),
    rule("reuse-addr", one::reuse_addr),
    rule("share-port", one::share_port),
    rule("reserve-port", one::reserve_port),
    // Who takes the ports of a range, state by state.
    rule("keep-alive", states::keep_alive),
    rule("close-after-peer", states::close_after_peer),
    rule("limit-pool", states::limit_pool),
    rule("connect-timeout", states::connect_timeout),
    rule("close-bound", states::close_bound),
    rule("bind-no-port", states::bind_no_port),
    rule("close-udp", states::close_udp),
    rule("move-listeners", states::move_listeners),
    rule("unreserve-ports", more::unreserve_ports),
    // TIME_WAIT.
    rule("tcp-timestamps", time_wait::tcp_timestamps),
    rule("tw-reuse", time_wait::tw_reuse),
    rule("tw-reuse-delay", time_wait::tw_reuse_delay),
    // More ports.
    rule("own-range", more::own_range),
    rule("widen-range", more::widen_range),
    rule("more-addresses", more::more_addresses),
    rule("port-slice", more::port_slice),
    rule("tw-reuse-age", time_wait::tw_reuse_age),
];

const fn rule(id: &'static str, says: fn(&Census) -> Option<Piece>) -> Rule<Census> {
    Rule { id, says }
}

// What a census is about.

fn is_udp(census: &Census) -> bool {
    i32::from(census.protocol) == libc::IPPROTO_UDP
}

/// A search through a range found nothing.
fn is_exhausted(census: &Census) -> bool {
    census.cause == Cause::PortsExhausted
}

fn is_connect(census: &Census) -> bool {
    census.kind == Kind::ConnectFailed && !is_udp(census)
}

// What takes the ports.

fn part(census: &Census, state: PortState) -> Option<&Part> {
    census.parts.iter().find(|part| part.state == state)
}

fn ports(census: &Census, states: &[PortState]) -> u32 {
    let parts = states.iter().filter_map(|state| part(census, *state));
    parts.map(|part| part.ports).sum()
}

/// Whether this many ports make a difference: a tenth of those there are.
fn matters(census: &Census, ports: u32) -> bool {
    ports > 0 && ports.saturating_mul(10) >= census.range.usable
}

/// The part in this state, if that makes a difference to a search.
fn large(census: &Census, state: PortState) -> Option<&Part> {
    part(census, state).filter(|part| is_exhausted(census) && matters(census, part.ports))
}

/// The part in this state, if it takes more ports than any other.
fn largest(census: &Census, state: PortState) -> Option<&Part> {
    let first = census.parts.first()?;
    large(census, state).filter(|part| part.ports == first.ports)
}

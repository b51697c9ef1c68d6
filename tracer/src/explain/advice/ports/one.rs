//! What to do when one port is taken?

use tracer_common::{Cause, Kind};

use super::is_udp;
use crate::explain::{
    advice::{
        Piece,
        wording::{count, who},
    },
    finding::{Census, Part, PortState},
};

/// The sockets that have the port that `bind()` or `listen()` wanted.
fn in_use(census: &Census) -> Option<&Part> {
    let wanted_one = census.cause == Cause::PortInUse;
    census.parts.first().filter(|_| wanted_one)
}

pub(super) fn let_connect_choose(census: &Census) -> Option<Piece> {
    if census.cause != Cause::AddressTaken {
        return None;
    }
    let destination = census.destination?;
    let taken = match census.parts.first() {
        Some(part) if part.state == PortState::TimeWait => {
            "an earlier connection is still in TIME_WAIT".to_owned()
        }
        Some(part) => match who(part) {
            Some(who) => format!("there is a connection already, of {who}"),
            None => "there is a connection already".to_owned(),
        },
        None => "there was a connection already".to_owned(),
    };
    Piece::general(format!(
        "Let connect() choose the port: this socket's was fixed at {} by bind(), and from there to {destination} {taken}. Bind to port 0 with IP_BIND_ADDRESS_NO_PORT, or not at all.",
        census.range.low
    ))
}

pub(super) fn port_owner(census: &Census) -> Option<Piece> {
    let part = in_use(census)?;
    let does = match part.state {
        PortState::Listening => "listens there",
        _ if is_udp(census) => "has bound it",
        PortState::BoundUnused => "has bound it and does not listen",
        _ => return None,
    };
    Piece::general(format!(
        "Choose another port than {}, or stop whoever has it: {} {does}.",
        census.range.low,
        who(part)?
    ))
}

/// Not where somebody listens, or has bound the port to listen soon: then
/// `SO_REUSEADDR` does not help, or takes the port away from somebody.
pub(super) fn reuse_addr(census: &Census) -> Option<Piece> {
    let part = in_use(census)?;
    let is_held = matches!(part.state, PortState::Listening | PortState::BoundUnused);
    if is_held || is_udp(census) || census.kind != Kind::BindFailed {
        return None;
    }
    let state = match part.state {
        PortState::TimeWait => " in TIME_WAIT",
        _ => "",
    };
    Piece::general(format!(
        "Set SO_REUSEADDR before bind(): nobody listens on port {}, only {}{state} {} left there. Those made by a socket without SO_REUSEADDR stand in the way all the same, for up to 60 s after they are closed.",
        census.range.low,
        count(part.sockets, "connection"),
        if part.sockets == 1 { "is" } else { "are" },
    ))
}

pub(super) fn share_port(census: &Census) -> Option<Piece> {
    let part = in_use(census)?;
    if part.state != PortState::Listening && !is_udp(census) {
        return None;
    }
    Piece::general(format!(
        "Only if both are meant to serve port {}: set SO_REUSEPORT before bind() on every socket of it, also on the one that is there, all under the same user.",
        census.range.low
    ))
}

/// A listener keeps its port anyway.
pub(super) fn reserve_port(census: &Census) -> Option<Piece> {
    let part = in_use(census)?;
    let port = census.range.low;
    let (low, high) = census.settings.port_range?;
    let reserved = &census.settings.reserved_ports;
    let is_reserved = reserved
        .iter()
        .any(|(low, high)| (low..=high).contains(&&port));
    if part.state == PortState::Listening || is_reserved || !(low..=high).contains(&port) {
        return None;
    }
    Piece::general(format!(
        "Add port {port} to net.ipv4.ip_local_reserved_ports: it lies within net.ipv4.ip_local_port_range ({low} {high}), so that any socket may be given it before its server asks for it."
    ))
}

//! Where do more ports come from?

use super::{is_connect, is_exhausted, is_udp, large, largest};
use crate::explain::{
    advice::{
        Piece,
        wording::{count, who},
    },
    finding::{Census, PortState},
};

/// The widest range that an unprivileged process may use: ports below 1024 are
/// privileged (`ip_unprivileged_port_start`), and `ip_local_port_range` may not
/// begin below that.
const WIDEST: (u16, u16) = (1024, 65535);

/// With this many ports a range is about as wide as it gets.
const WIDE: u32 = 60_000;

/// Whether most ports are held by sockets that a program forgot. Whatever is
/// added is lost to them sooner or later.
fn is_leak(census: &Census) -> bool {
    let leaks = [PortState::CloseWait, PortState::BoundUnused];
    !is_udp(census) && leaks.iter().any(|state| largest(census, *state).is_some())
}

/// Where that would add at least a third to what is left.
pub(super) fn unreserve_ports(census: &Census) -> Option<Piece> {
    let range = census.range;
    if !is_exhausted(census) || range.reserved.saturating_mul(3) < range.usable.max(1) {
        return None;
    }
    Piece::freeing(
        range.reserved,
        format!(
            "Shorten net.ipv4.ip_local_reserved_ports: it takes {} of the {} from {} to {}.",
            range.reserved,
            count(range.reserved + range.usable, "port"),
            range.low,
            range.high
        ),
    )
}

/// The range of the namespace, if the socket's own is narrower. It cannot be
/// wider: an end outside the range of the namespace does not count.
fn narrowed(census: &Census) -> Option<(u16, u16)> {
    let range = census.range;
    let whole = census.settings.port_range?;
    (range.is_own && whole != (range.low, range.high)).then_some(whole)
}

pub(super) fn own_range(census: &Census) -> Option<Piece> {
    let (low, high) = narrowed(census).filter(|_| is_exhausted(census))?;
    Piece::general(format!(
        "Widen the socket's own IP_LOCAL_PORT_RANGE, now {} to {}: net.ipv4.ip_local_port_range allows {low} to {high}.",
        census.range.low, census.range.high
    ))
}

pub(super) fn widen_range(census: &Census) -> Option<Piece> {
    let (low, high) = census.settings.port_range?;
    let size = u32::from(high).saturating_sub(u32::from(low)) + 1;
    if !is_exhausted(census) || size >= WIDE || narrowed(census).is_some() || is_leak(census) {
        return None;
    }
    // __inet_hash_connect() rounds the number of ports down to even.
    let leaves_one_out = is_connect(census) && !census.range.is_own && size % 2 == 1;
    let odd = if leaves_one_out && census.free > 0 {
        format!(" Mind that one end is even and one odd: of {size} ports connect() leaves one out.")
    } else {
        String::new()
    };
    Piece::general(format!(
        "Widen net.ipv4.ip_local_port_range to {} {} (now {low} {high}), and put ports on which servers listen into net.ipv4.ip_local_reserved_ports.{odd}",
        WIDEST.0, WIDEST.1
    ))
}

pub(super) fn more_addresses(census: &Census) -> Option<Piece> {
    if !is_exhausted(census) || is_leak(census) {
        return None;
    }
    let usable = count(census.range.usable, "port");
    let Some(destination) = census.destination else {
        let source = census.source.filter(|source| !source.is_unspecified())?;
        return Piece::general(format!(
            "Bind to more addresses than {source}: each has the {usable} to itself."
        ));
    };
    largest(census, PortState::Established)?;
    let source = match census.source {
        Some(source) => format!(" besides {source}"),
        None => String::new(),
    };
    Piece::general(format!(
        "Use more addresses: a second source address{source} (with IP_BIND_ADDRESS_NO_PORT), or a second address or port of the service besides {destination}. Each pair has the {usable} to itself."
    ))
}

pub(super) fn port_slice(census: &Census) -> Option<Piece> {
    if !census.settings.has_own_range || census.range.is_own {
        return None;
    }
    let hoards = [PortState::BoundUnused, PortState::BoundElsewhere];
    let hoard = hoards
        .iter()
        .filter_map(|state| large(census, *state))
        .max_by_key(|part| part.ports)?;
    Piece::general(format!(
        "Confine {} to a part of {}-{} with the socket option IP_LOCAL_PORT_RANGE, so that the rest is left for others.",
        who(hoard)?,
        census.range.low,
        census.range.high
    ))
}

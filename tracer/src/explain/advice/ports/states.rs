//! What to do about whatever takes the ports of a range, state by state?

use tracer_common::Kind;

use super::{is_connect, is_exhausted, is_udp, large, matters, part, ports};
use crate::explain::{
    advice::{
        Piece,
        wording::{count, who},
    },
    finding::{Census, Part, PortState},
};

/// `28000 of 28232 ports`, `all 4 ports`
fn share(census: &Census, ports: u32) -> String {
    let usable = count(census.range.usable, "port");
    if ports == census.range.usable {
        format!("all {usable}")
    } else {
        format!("{ports} of {usable}")
    }
}

fn who_or(part: &Part, otherwise: &str) -> String {
    who(part).unwrap_or_else(|| otherwise.to_owned())
}

pub(super) fn keep_alive(census: &Census) -> Option<Piece> {
    let destination = census.destination.filter(|_| is_exhausted(census))?;
    let closed = ports(census, &[PortState::TimeWait, PortState::Closing]);
    if !is_connect(census) || !matters(census, closed) {
        return None;
    }
    let main = part(census, PortState::TimeWait).or_else(|| part(census, PortState::Closing))?;
    let long = match main.state {
        PortState::TimeWait => ", each for 60 s",
        _ => "",
    };
    Piece::freeing(
        closed,
        format!(
            "Have {} keep connections to {destination} open and use them again (keep-alive, a connection pool): closed ones hold {}{long}.",
            who_or(main, "the clients"),
            share(census, closed)
        ),
    )
}

pub(super) fn close_after_peer(census: &Census) -> Option<Piece> {
    let part = large(census, PortState::CloseWait)?;
    Piece::freeing(
        part.ports,
        format!(
            "Have {} close sockets whose peer has closed: {} are in CLOSE_WAIT, and stay there until close() is called.",
            who_or(part, "the program"),
            share(census, part.ports)
        ),
    )
}

pub(super) fn limit_pool(census: &Census) -> Option<Piece> {
    let part = large(census, PortState::Established).filter(|_| is_connect(census))?;
    let destination = census.destination?;
    Piece::freeing(
        part.ports,
        format!(
            "Give {} a connection pool with an upper limit, and close what is not used: open connections to {destination} hold {}.",
            who_or(part, "the clients"),
            share(census, part.ports)
        ),
    )
}

pub(super) fn connect_timeout(census: &Census) -> Option<Piece> {
    let part = large(census, PortState::SynSent).filter(|_| is_connect(census))?;
    let destination = census.destination?;
    Piece::freeing(
        part.ports,
        format!(
            "Have {} give up sooner and open fewer connections at once: {destination} has not answered yet, and connects under way hold {}.",
            who_or(part, "the clients"),
            share(census, part.ports)
        ),
    )
}

pub(super) fn close_bound(census: &Census) -> Option<Piece> {
    let part = large(census, PortState::BoundUnused).filter(|_| !is_udp(census))?;
    Piece::freeing(
        part.ports,
        format!(
            "Mend or restart {}: bound sockets that neither connect nor listen hold {}, and no {} gets those.",
            who_or(part, "the program"),
            share(census, part.ports),
            if is_connect(census) {
                "connect()"
            } else {
                "bind() to their address"
            }
        ),
    )
}

pub(super) fn bind_no_port(census: &Census) -> Option<Piece> {
    if let Some(part) = large(census, PortState::BoundElsewhere) {
        return Piece::freeing(
            part.ports,
            format!(
                "Have {} set IP_BIND_ADDRESS_NO_PORT before bind(): its connections elsewhere hold {}. A port that bind() chose is taken from every connect(), one that connect() chose only from the same destination.",
                who_or(part, "the program that binds before it connects"),
                share(census, part.ports)
            ),
        );
    }
    let connected = [
        PortState::Established,
        PortState::CloseWait,
        PortState::SynSent,
        PortState::Closing,
        PortState::TimeWait,
    ];
    let held = ports(census, &connected);
    let is_search_by_bind = census.kind == Kind::BindFailed && is_exhausted(census);
    if !is_search_by_bind || is_udp(census) || !matters(census, held) {
        return None;
    }
    Piece::freeing(
        held,
        format!(
            "If this socket is to connect, set IP_BIND_ADDRESS_NO_PORT before bind(), as must every client that binds: connections hold {}, and only connect() can share those with other destinations. SO_REUSEADDR does not help bind() to port 0.",
            share(census, held)
        ),
    )
}

pub(super) fn close_udp(census: &Census) -> Option<Piece> {
    let part = census.parts.first()?;
    if !is_udp(census) || !is_exhausted(census) || !matters(census, part.ports) {
        return None;
    }
    Piece::freeing(
        part.ports,
        format!(
            "Have {} close UDP sockets that are not used any more, or use one for many peers: {} are held by {}.",
            who_or(part, "the program"),
            share(census, part.ports),
            match part.state {
                PortState::Established => "connected ones",
                _ => "unconnected ones",
            }
        ),
    )
}

pub(super) fn move_listeners(census: &Census) -> Option<Piece> {
    let part = large(census, PortState::Listening)?;
    Piece::freeing(
        part.ports,
        format!(
            "Move the listeners of {} out of {}-{}: they hold {}. What must stay belongs in net.ipv4.ip_local_reserved_ports, so that nobody is given it while its server restarts.",
            who_or(part, "the servers"),
            census.range.low,
            census.range.high,
            share(census, part.ports)
        ),
    )
}

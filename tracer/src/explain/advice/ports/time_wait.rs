//! What to do about `TIME_WAIT`, when there are many or when one stands in the
//! way?

use tracer_common::Cause;

use super::{is_connect, largest, part};
use crate::explain::{
    advice::Piece,
    finding::{Census, PortState},
};

/// Milliseconds: what `tcp_tw_reuse_delay` is unless it was changed, and what
/// kernels without it take.
const TW_REUSE_DELAY: u32 = 1000;

/// The ports in `TIME_WAIT`, if a `connect()` found no port and most are so.
fn time_wait(census: &Census) -> Option<u32> {
    let part = largest(census, PortState::TimeWait).filter(|_| is_connect(census))?;
    Some(part.ports)
}

fn has_timestamps(census: &Census) -> bool {
    census.settings.timestamps != Some(0)
}

/// The kernel looks at addresses, not at whether both ends are on this host
/// (`tcp_twsk_unique`, net/ipv4/tcp_ipv4.c).
fn is_loopback(census: &Census) -> bool {
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    census.source.is_some_and(is_loopback)
        || census.destination.is_some_and(|it| is_loopback(it.ip()))
}

/// Whether ports in `TIME_WAIT` are taken again, when they are old enough.
fn reuses(census: &Census) -> Option<bool> {
    let reuse = census.settings.tw_reuse?;
    Some(has_timestamps(census) && (reuse == 1 || (reuse == 2 && is_loopback(census))))
}

pub(super) fn tcp_timestamps(census: &Census) -> Option<Piece> {
    let is_clash = census.cause == Cause::AddressTaken;
    let held = match part(census, PortState::TimeWait) {
        Some(part) if is_clash => part.ports,
        _ => time_wait(census)?,
    };
    if has_timestamps(census) {
        return None;
    }
    let reuse = match census.settings.tw_reuse {
        Some(reuse) if !is_clash => format!(", whatever net.ipv4.tcp_tw_reuse is (now {reuse})"),
        _ => String::new(),
    };
    Piece::freeing(
        held,
        format!(
            "Set net.ipv4.tcp_timestamps to 1 (now 0), on both ends: a connection without timestamps keeps its port from the next one for all of the 60 s of TIME_WAIT{reuse}."
        ),
    )
}

pub(super) fn tw_reuse(census: &Census) -> Option<Piece> {
    let held = time_wait(census)?;
    let reuse = census.settings.tw_reuse?;
    if reuses(census)? || !has_timestamps(census) {
        return None;
    }
    let meaning = match reuse {
        2 => ": loopback addresses only",
        _ => "",
    };
    let age = match census.settings.tw_reuse_delay {
        Some(delay) => format!("{delay} ms (net.ipv4.tcp_tw_reuse_delay)"),
        None => "a second".to_owned(),
    };
    Piece::freeing(
        held,
        format!(
            "Set net.ipv4.tcp_tw_reuse to 1 (now {reuse}{meaning}): connect() then takes a port in TIME_WAIT again after {age} instead of 60 s, if the old connection had timestamps."
        ),
    )
}

pub(super) fn tw_reuse_delay(census: &Census) -> Option<Piece> {
    let held = time_wait(census)?;
    let delay = census.settings.tw_reuse_delay?;
    if !reuses(census)? || delay <= TW_REUSE_DELAY {
        return None;
    }
    Piece::freeing(
        held,
        format!(
            "Set net.ipv4.tcp_tw_reuse_delay back to {TW_REUSE_DELAY} (now {delay}): so many milliseconds must pass before connect() takes a port in TIME_WAIT again."
        ),
    )
}

/// Comes last: it saves a search in the wrong place.
pub(super) fn tw_reuse_age(census: &Census) -> Option<Piece> {
    time_wait(census)?;
    let delay = census.settings.tw_reuse_delay.unwrap_or(TW_REUSE_DELAY);
    if !reuses(census)? || delay > TW_REUSE_DELAY {
        return None;
    }
    Piece::general(format!(
        "Expect no more of net.ipv4.tcp_tw_reuse: it is {} and at work here. What a search leaves in TIME_WAIT is younger than about {delay} ms, or had no timestamps.",
        census.settings.tw_reuse?
    ))
}

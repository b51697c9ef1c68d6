//! Which clients believe they are connected to a server that does not know
//! them? Pure: looks only at lists of sockets, those in the listener's network
//! namespace and those of its clients in other ones.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{finding::Ghost, queue::Acked};
use crate::{
    host::sock_diag::{Row, state},
    model::Process,
};

/// How many are listed.
const LISTED: usize = 8;

/// In which a client may believe that it is connected; see [`is_trusting`].
pub(crate) const CLIENT_STATES: u32 = 1 << state::ESTABLISHED | 1 << state::FIN_WAIT1;

/// What other network namespaces of this host show of the peers.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// Those of the peers' IP addresses that one of them has as its own.
    pub(crate) addresses: HashSet<IpAddr>,
    /// There: sockets in [`CLIENT_STATES`] at a peer's address and port, to
    /// wherever they lead.
    pub(crate) rows: Vec<Row>,
}

/// What the lists show of a peer.
#[derive(Default)]
struct Seen<'a> {
    /// The server has the connection, or had it a minute ago.
    is_known: bool,
    /// The server sends its SYN-ACK again and again.
    is_tried: bool,
    /// The client's socket.
    client: Option<&'a Row>,
    /// In another namespace there is a socket at the client's address and port
    /// that leads somewhere else: perhaps here all the same, by way of NAT.
    is_rerouted: bool,
}

impl Seen<'_> {
    fn is_elsewhere(&self, peer: SocketAddr, here: &HashSet<IpAddr>) -> bool {
        self.client.is_none() && !peer.ip().is_loopback() && !here.contains(&peer.ip())
    }
}

/// Of the peers in `acked` those that another namespace may show more of.
pub(crate) fn wanted(rows: &[Row], local: SocketAddr, acked: &[Acked]) -> HashSet<SocketAddr> {
    let here = addresses(rows);
    let seen = look(rows, &[], local, acked).into_iter();
    seen.filter(|(peer, seen)| !seen.is_known && seen.is_elsewhere(*peer, &here))
        .map(|(peer, _)| peer)
        .collect()
}

/// Of the peers in `acked`, whose final ACKs the listener at `local` (its
/// address may be a wildcard) dropped: those that believe they are connected
/// and that the server does not know. The first few, those with a process
/// first, and how many there are. `who` names the process that has a socket.
///
/// A client in this namespace is judged by its own socket. Such a client is one
/// with a loopback address or with an address that any listed socket is bound
/// to; behind NAT it may be elsewhere all the same, and is then missed.
///
/// A client in another namespace of this host is judged by its own socket too:
/// `neighbours` shows it. If it is gone, the client gave up, unless the server
/// still sends SYN-ACKs: a host without the socket would answer with a reset, so
/// the client is on another one that has the same address.
///
/// Any other client is judged by what the server shows: a ghost is who is
/// still being sent SYN-ACKs; who no longer is, if `retries`
/// (`net.ipv4.tcp_synack_retries`) may have been used up; and who was let down
/// after a syncookie, of which the server keeps nothing. In the last two cases
/// one that came in later, and whose connection is over by now, looks the same.
pub(crate) fn ghosts(
    rows: &[Row],
    neighbours: &Neighbours,
    local: SocketAddr,
    acked: &[Acked],
    retries: Option<u32>,
    mut who: impl FnMut(&Row) -> Option<Process>,
) -> (Vec<Ghost>, u64) {
    if acked.is_empty() {
        return (Vec::new(), 0);
    }
    let seen = look(rows, &neighbours.rows, local, acked);
    let here = addresses(rows);
    let is_neighbour = |peer: SocketAddr| neighbours.addresses.contains(&peer.ip());
    let is_ghost = |acked: &Acked, seen: &Seen| match seen.client {
        _ if seen.is_known => false,
        Some(client) => is_trusting(client),
        None if !seen.is_elsewhere(acked.peer, &here) => false,
        None if is_neighbour(acked.peer) && !seen.is_rerouted => seen.is_tried,
        None => seen.is_tried || acked.is_cookie || is_given_up(acked, retries),
    };
    let mut ghosts: Vec<_> = acked
        .iter()
        .filter_map(|acked| Some((acked, seen.get(&acked.peer)?)))
        .filter(|(acked, seen)| is_ghost(acked, seen))
        .map(|(acked, seen)| (acked.peer, seen.client))
        .collect();
    ghosts.sort_by_key(|(_, client)| client.is_none());
    let count = u64::try_from(ghosts.len()).unwrap_or(u64::MAX);
    let listed = ghosts.into_iter().take(LISTED).map(|(peer, client)| Ghost {
        peer,
        process: client.and_then(&mut who),
    });
    (listed.collect(), count)
}

/// The addresses that sockets here are bound to.
fn addresses(rows: &[Row]) -> HashSet<IpAddr> {
    rows.iter().map(|row| row.local.ip()).collect()
}

/// One pass over the lists, which may be long.
fn look<'a>(
    rows: &'a [Row],
    neighbours: &'a [Row],
    local: SocketAddr,
    acked: &[Acked],
) -> HashMap<SocketAddr, Seen<'a>> {
    let is_listeners = |end: SocketAddr| {
        end.port() == local.port() && (local.ip().is_unspecified() || end.ip() == local.ip())
    };
    let mut seen: HashMap<SocketAddr, Seen> = acked
        .iter()
        .map(|acked| (acked.peer, Seen::default()))
        .collect();
    for row in rows {
        if is_listeners(row.local)
            && let Some(seen) = seen.get_mut(&row.remote)
        {
            match row.state {
                state::SYN_RECV => seen.is_tried = true,
                state::SYN_SENT | state::CLOSE | state::LISTEN | state::BOUND_INACTIVE => {}
                _ => seen.is_known = true,
            }
        }
        if is_listeners(row.remote)
            && let Some(seen) = seen.get_mut(&row.local)
            && !seen.client.is_some_and(is_trusting)
        {
            seen.client = Some(row);
        }
    }
    for row in neighbours {
        match seen.get_mut(&row.local) {
            Some(seen) if !is_listeners(row.remote) => seen.is_rerouted = true,
            Some(seen) if !seen.client.is_some_and(is_trusting) => seen.client = Some(row),
            _ => {}
        }
    }
    seen
}

/// Whether a client's socket has had no sign from the server since the
/// handshake, and a process still has it. In every later state than these the
/// server has answered a FIN or sent one, so it knows. A socket that is closed,
/// not only shut down for sending, stays in `FIN_WAIT1` without a process.
fn is_trusting(client: &Row) -> bool {
    match client.state {
        state::ESTABLISHED => true,
        state::FIN_WAIT1 => client.inode != 0,
        _ => false,
    }
}

/// Whether the server may have stopped sending SYN-ACKs. It sends them 1, 3, 7,
/// 15, .. s after the first, `tcp_synack_retries` times, but under pressure only
/// twice (reqsk_timer_handler, net/ipv4/inet_connection_sock.c), and the client
/// answers each. Had the final ACK not been dropped until the last of them, the
/// client would have come in.
fn is_given_up(acked: &Acked, retries: Option<u32>) -> bool {
    const UNDER_PRESSURE: u32 = 2;
    let retries = retries.unwrap_or(UNDER_PRESSURE).min(UNDER_PRESSURE);
    // Timers are never early, but the first ACK is under way for a while.
    let slack = Duration::from_millis(500);
    let last_try = Duration::from_secs((1 << retries) - 1).saturating_sub(slack);
    acked.last.duration_since(acked.first).unsigned_abs() >= last_try
}

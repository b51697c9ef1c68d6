//! Which clients believe they are connected to a server that does not know
//! them? Pure: looks only at a list of the sockets in the listener's network
//! namespace.

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

/// What the list shows of a peer.
#[derive(Default)]
struct Seen<'a> {
    /// The server has the connection, or had it a minute ago.
    is_known: bool,
    /// The server sends its SYN-ACK again and again.
    is_tried: bool,
    /// The client's socket.
    client: Option<&'a Row>,
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
/// A client elsewhere is judged by what the server shows: a ghost is who is
/// still being sent SYN-ACKs; who no longer is, if `retries`
/// (`net.ipv4.tcp_synack_retries`) may have been used up; and who was let down
/// after a syncookie, of which the server keeps nothing. In the last two cases
/// one that came in later, and whose connection is over by now, looks the same.
pub(crate) fn ghosts(
    rows: &[Row],
    local: SocketAddr,
    acked: &[Acked],
    retries: Option<u32>,
    mut who: impl FnMut(&Row) -> Option<Process>,
) -> (Vec<Ghost>, u64) {
    if acked.is_empty() {
        return (Vec::new(), 0);
    }
    let seen = look(rows, local, acked);
    let here: HashSet<IpAddr> = rows.iter().map(|row| row.local.ip()).collect();
    let is_ghost = |acked: &Acked, seen: &Seen| match seen.client {
        _ if seen.is_known => false,
        Some(client) => is_trusting(client),
        None if acked.peer.ip().is_loopback() || here.contains(&acked.peer.ip()) => false,
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

/// One pass over the list, which may be long.
fn look<'a>(rows: &'a [Row], local: SocketAddr, acked: &[Acked]) -> HashMap<SocketAddr, Seen<'a>> {
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
    seen
}

/// Whether a client's socket has had no sign from the server since the
/// handshake. In every later state than these the server has answered a FIN or
/// sent one, so it knows.
fn is_trusting(client: &Row) -> bool {
    matches!(client.state, state::ESTABLISHED | state::FIN_WAIT1)
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

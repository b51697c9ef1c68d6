//! Are a listener's peers in other network namespaces of this host, and what do
//! these show of them?

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
};

use super::{
    ghosts::{CLIENT_STATES, Neighbours},
    snapshot,
};
use crate::host::{
    addresses, netns,
    sock_diag::{Protocol, Row},
};

/// How many namespaces are looked into.
const NAMESPACES: usize = 64;

/// Looks for `peers` in every namespace but `own`; one that is gone or may not be
/// entered is left out. Sockets are listed only where one of the addresses is.
pub(crate) fn look(own: u32, peers: &HashSet<SocketAddr>) -> Neighbours {
    let mut neighbours = Neighbours::default();
    if peers.is_empty() {
        return neighbours;
    }
    let wanted: HashSet<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
    let others = netns::all().into_iter().filter(|(netns, _)| *netns != own);
    for (_, path) in others.take(NAMESPACES) {
        if let Ok((addresses, rows)) = netns::inside(&path, || here(&wanted, peers)) {
            neighbours.addresses.extend(addresses);
            neighbours.rows.extend(rows);
        }
    }
    neighbours
}

fn here(
    wanted: &HashSet<IpAddr>,
    peers: &HashSet<SocketAddr>,
) -> io::Result<(HashSet<IpAddr>, Vec<Row>)> {
    let mut addresses = addresses::list()?;
    addresses.retain(|address| wanted.contains(address));
    if addresses.is_empty() {
        return Ok((addresses, Vec::new()));
    }
    let mut rows = snapshot::list(Protocol::Tcp, CLIENT_STATES)?;
    rows.retain(|row| peers.contains(&row.local));
    Ok((addresses, rows))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_peer_in_another_namespace_is_found() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (peer, server) = (client.local_addr()?, client.peer_addr()?);
        let peers = HashSet::from([peer]);
        // No namespace has this number, so this one counts as another.
        let seen = look(0, &peers);
        assert_eq!(seen.addresses, HashSet::from([peer.ip()]));
        assert!(seen.rows.iter().all(|row| row.local == peer));
        assert!(seen.rows.iter().any(|row| row.remote == server));
        let nowhere = HashSet::from([SocketAddr::from(([192, 0, 2, 9], 4000))]);
        let seen = look(0, &nowhere);
        assert!(seen.addresses.is_empty() && seen.rows.is_empty());
        Ok(())
    }
}

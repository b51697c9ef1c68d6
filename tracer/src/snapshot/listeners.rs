//! How full is each listener's queue, and who holds the listener? Pure: sockets
//! in, table out.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::places::Place;
use crate::{
    host::sock_diag::{Row, state},
    model::Process,
};

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) place: Place,
    pub(crate) local: SocketAddr,
    pub(crate) is_ipv6: bool,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    /// Length of the accept queue.
    pub(crate) len: u32,
    /// Its limit; the kernel admits one more. `None`: only /proc could be read,
    /// which does not tell.
    pub(crate) max: Option<u32>,
    /// At most so many segments were dropped at the socket since it was made:
    /// the kernel counts some twice there, and other things too. `None`: this
    /// kernel does not tell.
    pub(crate) drops: Option<u32>,
    /// What is on its way to the address.
    pub(crate) towards: Towards,
    /// Every process that has it open, by pid, pid 1 last.
    pub(crate) holders: Vec<Process>,
}

/// Connections to an address that no process has yet. Listeners that share the
/// address (`SO_REUSEPORT`) share them: nothing tells whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Towards {
    /// Handshakes that are under way.
    pub(crate) half_open: u32,
    /// Waiting for `accept()`.
    pub(crate) waiting: u32,
    /// Those of them that the peer has closed already.
    pub(crate) given_up: u32,
    /// Listeners at the address.
    pub(crate) listeners: u32,
}

impl Listener {
    /// How full the accept queue is.
    pub(crate) fn fill_percent(&self) -> Option<u64> {
        let max = self.max?;
        Some(u64::from(self.len) * 100 / (u64::from(max) + 1))
    }
}

/// The listeners of a namespace. `others`: connections there; `who`: the holders
/// of the socket with an inode.
pub(crate) fn table(
    place: &Place,
    listening: &[Row],
    others: &[Row],
    mut who: impl FnMut(u64) -> Vec<Process>,
) -> Vec<Listener> {
    let mut towards: HashMap<SocketAddr, Towards> = HashMap::new();
    for row in listening {
        towards.entry(row.local).or_default().listeners += 1;
    }
    // What a process has, it has accepted or connected itself.
    for row in others.iter().filter(|row| row.inode == 0) {
        let Some(local) = serving(row.local, |local| towards.contains_key(local)) else {
            continue;
        };
        let towards = towards.entry(local).or_default();
        match row.state {
            state::SYN_RECV => towards.half_open += 1,
            state::CLOSE_WAIT => {
                towards.waiting += 1;
                towards.given_up += 1;
            }
            _ => towards.waiting += 1,
        }
    }
    listening
        .iter()
        .map(|row| Listener {
            place: place.clone(),
            local: row.local,
            is_ipv6: row.is_ipv6,
            inode: row.inode,
            uid: row.uid,
            len: row.receive_queue,
            // sock_diag tells both, /proc neither.
            max: row.drops.map(|_| row.send_queue),
            drops: row.drops,
            towards: towards.get(&row.local).copied().unwrap_or_default(),
            holders: who(row.inode),
        })
        .collect()
}

/// The address of the listener that serves a connection to `local`: the same
/// one, else the wildcard of its family, else that of IPv6.
fn serving(local: SocketAddr, listens: impl Fn(&SocketAddr) -> bool) -> Option<SocketAddr> {
    let port = local.port();
    let v4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    [
        Some(local),
        local.is_ipv4().then_some(SocketAddr::new(v4, port)),
        Some(SocketAddr::new(v6, port)),
    ]
    .into_iter()
    .flatten()
    .find(listens)
}

/// Puts the fullest queue first, then the one with most drops.
pub(crate) fn fullest_first(listeners: &mut [Listener]) {
    listeners.sort_by_key(|one| {
        (
            Reverse((one.fill_percent(), one.len, one.drops)),
            one.place.netns,
            one.local.port(),
            one.local,
            one.inode,
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: u8, local: &str, inode: u64, queue: (u32, u32)) -> Option<Row> {
        Some(Row {
            state,
            local: local.parse().ok()?,
            remote: "10.0.0.9:5000".parse().ok()?,
            is_ipv6: false,
            inode,
            uid: 0,
            receive_queue: queue.0,
            send_queue: queue.1,
            timer_ms: 0,
            drops: Some(0),
        })
    }

    fn listener(local: &str, inode: u64, queue: (u32, u32)) -> Option<Row> {
        row(state::LISTEN, local, inode, queue)
    }

    fn other(state: u8, local: &str, inode: u64) -> Option<Row> {
        row(state, local, inode, (0, 0))
    }

    fn made(listening: &[Option<Row>], others: &[Option<Row>]) -> Vec<Listener> {
        let rows = |rows: &[Option<Row>]| rows.iter().flatten().copied().collect::<Vec<_>>();
        let who = |inode| {
            vec![Process {
                pid: u32::try_from(inode).unwrap_or_default(),
                ..Process::default()
            }]
        };
        let place = Place::default();
        let mut made = table(&place, &rows(listening), &rows(others), who);
        fullest_first(&mut made);
        made
    }

    #[test]
    fn one_more_than_the_limit_is_full() {
        let made = made(
            &[
                listener("0.0.0.0:1", 1, (1, 127)),
                listener("0.0.0.0:2", 2, (3, 2)),
                listener("0.0.0.0:3", 3, (1, 0)),
                listener("0.0.0.0:4", 4, (0, 4096)),
            ],
            &[],
        );
        let told: Vec<_> = made
            .iter()
            .map(|one| (one.local.port(), one.fill_percent(), one.holders[0].pid))
            .collect();
        assert_eq!(
            told,
            [
                (2, Some(100), 2),
                (3, Some(100), 3),
                (1, Some(0), 1),
                (4, Some(0), 4)
            ]
        );
    }

    #[test]
    fn what_is_on_its_way_finds_its_listener() {
        use state::{CLOSE_WAIT, ESTABLISHED, SYN_RECV};
        let made = made(
            &[
                listener("10.0.0.1:80", 1, (0, 9)),
                listener("0.0.0.0:80", 2, (0, 9)),
                listener("[::]:80", 3, (0, 9)),
                listener("[::]:81", 4, (0, 9)),
                listener("[::]:81", 5, (0, 9)),
            ],
            &[
                other(SYN_RECV, "10.0.0.1:80", 0),
                other(SYN_RECV, "10.0.0.2:80", 0),
                other(ESTABLISHED, "10.0.0.2:80", 0),
                other(CLOSE_WAIT, "[fd00::1]:80", 0),
                // Dual-stack.
                other(SYN_RECV, "10.0.0.2:81", 0),
                // Accepted, or nobody's.
                other(ESTABLISHED, "10.0.0.1:80", 99),
                other(SYN_RECV, "10.0.0.1:82", 0),
            ],
        );
        let told: Vec<_> = made
            .iter()
            .map(|one| {
                let Towards {
                    half_open,
                    waiting,
                    given_up,
                    listeners,
                } = one.towards;
                (one.inode, [half_open, waiting, given_up, listeners])
            })
            .collect();
        assert_eq!(
            told,
            [
                (2, [1, 1, 0, 1]),
                (1, [1, 0, 0, 1]),
                (3, [0, 1, 1, 1]),
                (4, [1, 0, 0, 2]),
                (5, [1, 0, 0, 2])
            ]
        );
    }
}

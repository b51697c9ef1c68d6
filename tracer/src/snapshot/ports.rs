//! How many ports of the range are taken in a network namespace, in all and
//! towards each destination? Pure: sockets in, tables out.
//!
//! A connection takes its port towards its own destination only. A port that is
//! listened on, or bound and unused, is taken from all. A server's connections
//! are on its listener's port and take none of their own.

use std::{
    cmp::Reverse,
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::places::Place;
use crate::{
    explain::{
        census::{Account, Ports, Who, state_of},
        finding::{Holder, Part, PortState, Settings},
    },
    host::sock_diag::{Row, state},
};

/// The sockets of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    pub(crate) tcp: Vec<Row>,
    /// `None`: this kernel does not list them.
    pub(crate) udp: Option<Vec<Row>>,
}

impl Sockets {
    /// All of them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.tcp.iter().chain(self.udp.iter().flatten())
    }
}

/// The ports of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) place: Place,
    /// Of all TCP sockets together.
    pub(crate) tcp: Account,
    /// Ports that no `connect()` can have: listened on, or bound and unused.
    pub(crate) unavailable: u32,
    /// Most exhausted first, no more than asked for.
    pub(crate) destinations: Vec<Destination>,
    /// All of them.
    pub(crate) destination_count: usize,
    /// `TIME_WAIT` sockets on ports that are listened on.
    pub(crate) servers_time_wait: u32,
    pub(crate) udp: Option<Account>,
    /// TCP sockets that were read.
    pub(crate) sockets: usize,
}

/// The ports towards one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// From this address.
    pub(crate) source: IpAddr,
    pub(crate) remote: SocketAddr,
    /// Ports of its own connections.
    pub(crate) own: u32,
    /// Those, and the ones that nobody can have.
    pub(crate) used: u32,
    pub(crate) free: u32,
    /// Of its own connections, by state.
    pub(crate) parts: Vec<Part>,
    /// The same by owner.
    pub(crate) holders: Vec<Holder>,
}

/// The table of a namespace, with up to `limit` destinations. `None`: its range
/// cannot be read.
pub(crate) fn table(
    sockets: &Sockets,
    limit: usize,
    mut who: impl FnMut(&Row) -> Who,
) -> Option<Table> {
    let ports = Ports::of_namespace(&sockets.settings)?;
    let rows = &sockets.tcp;
    let tcp = ports.account(rows, state_of, &mut who);
    let unavailable: HashSet<u16> = rows
        .iter()
        .filter(|row| ports.is_usable(row.local.port()) && is_unavailable(row))
        .map(|row| row.local.port())
        .collect();
    let blocked = u32::try_from(unavailable.len()).unwrap_or(u32::MAX);
    let mut connections: Vec<Row> = rows
        .iter()
        .filter(|row| ports.is_usable(row.local.port()))
        .filter(|row| !unavailable.contains(&row.local.port()))
        .copied()
        .collect();
    connections.sort_unstable_by_key(pair);
    let mut groups: Vec<&[Row]> = connections
        .chunk_by(|one, other| pair(one) == pair(other))
        .collect();
    groups.sort_by_key(|group| Reverse(group.len()));
    let destinations = groups.iter().take(limit).filter_map(|group| {
        let account = ports.account(group, state_of, &mut who);
        let first = group.first()?;
        Some(Destination {
            source: first.local.ip(),
            remote: first.remote,
            own: account.used(),
            used: account.used() + blocked,
            free: account.free.saturating_sub(blocked),
            parts: account.parts,
            holders: account.holders,
        })
    });
    Some(Table {
        place: sockets.place.clone(),
        destinations: destinations.collect(),
        destination_count: groups.len(),
        unavailable: blocked,
        servers_time_wait: servers_time_wait(rows),
        udp: sockets
            .udp
            .as_ref()
            .map(|rows| ports.account(rows, state_of, &mut who)),
        sockets: rows.len(),
        tcp,
    })
}

/// Source and destination. A port is on one connection between them, so there
/// are as many ports as sockets.
fn pair(row: &Row) -> (SocketAddr, IpAddr) {
    (row.remote, row.local.ip())
}

fn is_unavailable(row: &Row) -> bool {
    matches!(
        state_of(row),
        Some(PortState::Listening | PortState::BoundUnused)
    )
}

fn servers_time_wait(rows: &[Row]) -> u32 {
    let in_state = |wanted| rows.iter().filter(move |row| row.state == wanted);
    let served: HashSet<u16> = in_state(state::LISTEN)
        .map(|row| row.local.port())
        .collect();
    let count = in_state(state::TIME_WAIT)
        .filter(|row| served.contains(&row.local.port()))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Table {
    /// Whether any port of the range is taken.
    pub(crate) fn is_idle(&self) -> bool {
        let has_udp = self.udp.as_ref().is_some_and(|udp| udp.used() > 0);
        self.tcp.used() == 0 && !has_udp && self.servers_time_wait == 0
    }

    /// Ports taken of all usable ones, towards the destination that has fewest
    /// left, as a fraction.
    fn fullest(&self) -> (u64, u64) {
        let used = self.destinations.first().map_or(0, |first| first.used);
        (used.into(), u64::from(self.tcp.range.usable).max(1))
    }
}

/// Puts the namespace first that has a destination with the fewest ports left.
pub(crate) fn most_exhausted_first(tables: &mut [Table]) {
    tables.sort_by(|one, other| {
        let ((used, usable), (others_used, others_usable)) = (one.fullest(), other.fullest());
        (others_used * usable)
            .cmp(&(used * others_usable))
            .then_with(|| other.tcp.used().cmp(&one.tcp.used()))
            .then_with(|| one.place.netns.cmp(&other.place.netns))
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::model::Process;

    const ANY: &str = "0.0.0.0:0";
    const WEB: &str = "10.0.0.2:80";
    const DB: &str = "10.0.0.3:5432";

    fn row(state: u8, local: &str, remote: &str) -> Option<Row> {
        Some(Row {
            state,
            local: local.parse().ok()?,
            remote: remote.parse().ok()?,
            is_ipv6: false,
            inode: 1,
            uid: 0,
            receive_queue: 0,
            send_queue: 0,
            timer_ms: 0,
            drops: None,
        })
    }

    fn sockets(tcp: impl IntoIterator<Item = Option<Row>>) -> Sockets {
        Sockets {
            settings: Settings {
                port_range: Some((1000, 1009)),
                reserved_ports: vec![(1009, 1009)],
                ..Settings::default()
            },
            tcp: tcp.into_iter().flatten().collect(),
            ..Sockets::default()
        }
    }

    fn curl(_: &Row) -> Who {
        Who::Process(Rc::new(Process {
            pid: 7,
            comm: b"curl".to_vec(),
            ..Process::default()
        }))
    }

    fn example() -> Option<Table> {
        let sockets = sockets([
            row(state::LISTEN, "0.0.0.0:80", ANY),
            row(state::LISTEN, "0.0.0.0:1000", ANY),
            row(state::BOUND_INACTIVE, "10.0.0.1:1001", ANY),
            // A server's connections, on both listeners.
            row(state::TIME_WAIT, "10.0.0.1:80", "10.0.0.9:5000"),
            row(state::TIME_WAIT, "10.0.0.1:80", "10.0.0.9:5001"),
            row(state::TIME_WAIT, "10.0.0.1:1000", "10.0.0.9:5000"),
            row(state::ESTABLISHED, "10.0.0.1:1000", "10.0.0.9:5001"),
            // A client's; one port serves two destinations.
            row(state::ESTABLISHED, "10.0.0.1:1002", WEB),
            row(state::TIME_WAIT, "10.0.0.1:1003", WEB),
            row(state::TIME_WAIT, "10.0.0.1:1004", WEB),
            row(state::ESTABLISHED, "10.0.0.1:1002", DB),
            // From another address.
            row(state::ESTABLISHED, "10.0.0.4:1002", WEB),
            // Neither is in the range: below, and reserved.
            row(state::ESTABLISHED, "10.0.0.1:999", WEB),
            row(state::ESTABLISHED, "10.0.0.1:1009", WEB),
        ]);
        table(&sockets, 20, curl)
    }

    #[test]
    fn everything_is_counted_once() -> Result<(), &'static str> {
        let table = example().ok_or("no table")?;
        assert_eq!((table.tcp.range.usable, table.tcp.range.reserved), (9, 1));
        assert_eq!((table.tcp.used(), table.tcp.free), (5, 4));
        let parts = table.tcp.parts.iter();
        let parts: Vec<_> = parts.map(|part| (part.state.name(), part.ports)).collect();
        assert_eq!(
            parts,
            [
                ("time_wait", 2),
                ("listening", 1),
                ("bound_unused", 1),
                ("established", 1)
            ]
        );
        let holders = table.tcp.holders.iter();
        let ports: Vec<_> = holders.map(|holder| holder.ports).collect();
        assert_eq!(ports, [5]);
        assert_eq!(table.unavailable, 2);
        assert_eq!(table.servers_time_wait, 3);
        Ok(())
    }

    #[test]
    fn the_most_exhausted_destination_is_first() -> Result<(), &'static str> {
        let table = example().ok_or("no table")?;
        let told: Vec<_> = table
            .destinations
            .iter()
            .map(|one| (one.source.to_string(), one.remote.to_string(), one.own))
            .collect();
        let one = |source: &str, remote: &str, own| (source.to_owned(), remote.to_owned(), own);
        assert_eq!(
            told,
            [
                one("10.0.0.1", WEB, 3),
                one("10.0.0.4", WEB, 1),
                one("10.0.0.1", DB, 1)
            ]
        );
        let first = &table.destinations[0];
        assert_eq!((first.used, first.free), (5, 4));
        let states = first.parts.iter();
        let states: Vec<_> = states.map(|part| (part.state.name(), part.ports)).collect();
        assert_eq!(states, [("time_wait", 2), ("established", 1)]);
        Ok(())
    }

    #[test]
    fn destinations_are_limited_but_counted() -> Result<(), &'static str> {
        let many = sockets((1..=200).map(|n| {
            row(
                state::ESTABLISHED,
                "10.0.0.1:1002",
                &format!("10.0.1.{n}:80"),
            )
        }));
        let table = table(&many, 20, curl).ok_or("no table")?;
        assert_eq!(
            (table.destinations.len(), table.destination_count),
            (20, 200)
        );
        Ok(())
    }

    #[test]
    fn the_fullest_namespace_is_first() -> Result<(), &'static str> {
        let idle = table(&sockets([]), 20, curl).ok_or("no table")?;
        assert!(idle.is_idle());
        let busy = example().ok_or("no table")?;
        assert!(!busy.is_idle());
        let mut tables = [idle.clone(), busy.clone()];
        most_exhausted_first(&mut tables);
        assert_eq!(tables, [busy, idle]);
        assert_eq!(table(&Sockets::default(), 20, curl), None);
        Ok(())
    }
}

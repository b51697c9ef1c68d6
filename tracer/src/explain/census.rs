//! Where did the ports go? Pure: sockets in, the account of a port range out.
//!
//! What takes a port depends on who asks (kernel-side: `__inet_hash_connect`
//! and `inet_csk_get_port`):
//!
//! * `connect()` cannot use a port that anybody bound with `bind()`, listeners
//!   included; of all other ports only those on which the same source already
//!   has a connection, or a `TIME_WAIT`, to the same destination.
//! * `bind()` cannot use a port on which any socket has the same local address,
//!   or either address is the wildcard.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tracer_common::{Cause, Kind};

use super::finding::{Holder, Owner, Part, PortState, Program, Range, Settings};
use crate::{
    host::sock_diag::{Row, state},
    model::Process,
};

/// What a census is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    /// IP protocol number.
    pub(crate) protocol: u16,
    /// See [`super::finding::Census::source`].
    pub(crate) source: Option<IpAddr>,
    /// See [`super::finding::Census::destination`].
    pub(crate) destination: Option<SocketAddr>,
    /// The one port that was wanted; `None`: any of the range.
    pub(crate) port: Option<u16>,
    /// The socket's own `IP_LOCAL_PORT_RANGE`; a zero: that end is not set.
    pub(crate) own: (u16, u16),
}

/// Who has a socket, as far as known.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Process(Rc<Process>),
    NotAccepted,
    BeforeTracer,
    Unknown(&'static str),
}

/// The account of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) range: Range,
    pub(crate) parts: Vec<Part>,
    /// Who has them, whatever the state; the ports of all add up to those of
    /// all parts. Most ports first.
    pub(crate) holders: Vec<Holder>,
    /// Usable ports without a socket that takes them.
    pub(crate) free: u32,
}

impl Account {
    /// Usable ports that something takes.
    pub(crate) fn used(&self) -> u32 {
        self.range.usable - self.free
    }
}

/// Says of every port of the range what takes it, and who. `None`: the range is
/// not known.
pub(crate) fn account(
    scope: &Scope,
    settings: &Settings,
    rows: &[Row],
    who: impl FnMut(&Row) -> Who,
) -> Option<Account> {
    let ports = Ports::of(scope, settings)?;
    Some(ports.account(rows, |row| taken_by(scope, row), who))
}

/// The ports that were searched.
pub(crate) struct Ports<'a> {
    pub(crate) range: Range,
    reserved: &'a [(u16, u16)],
    /// A search of this many ports leaves one out (`__inet_hash_connect` rounds
    /// down to an even number).
    leaves_one_out: bool,
}

impl<'a> Ports<'a> {
    fn of(scope: &Scope, settings: &'a Settings) -> Option<Self> {
        if let Some(port) = scope.port {
            let range = Range {
                low: port,
                high: port,
                is_own: false,
                reserved: 0,
                usable: 1,
            };
            return Some(Self {
                range,
                // An explicit bind() may use a reserved port.
                reserved: &[],
                leaves_one_out: false,
            });
        }
        let (mut low, mut high) = settings.port_range?;
        // inet_sk_get_local_port_range(): an end that lies within the range of
        // the namespace replaces it.
        let whole = low..=high;
        let (own_low, own_high) = scope.own;
        let is_own = scope.own != (0, 0);
        if is_own && whole.contains(&own_low) {
            low = own_low;
        }
        if is_own && whole.contains(&own_high) {
            high = own_high;
        }
        let ports = Self::between(low, high, settings);
        let all = ports.range.usable + ports.range.reserved;
        Some(Self {
            range: Range {
                is_own,
                ..ports.range
            },
            leaves_one_out: scope.kind == Kind::ConnectFailed && !is_own && all % 2 == 1,
            ..ports
        })
    }

    /// The range of the namespace, whoever searches.
    pub(crate) fn of_namespace(settings: &'a Settings) -> Option<Self> {
        let (low, high) = settings.port_range?;
        Some(Self::between(low, high, settings))
    }

    fn between(low: u16, high: u16, settings: &'a Settings) -> Self {
        let all = u32::from(high).saturating_sub(u32::from(low)) + 1;
        let reserved_here = (low..=high).filter(|port| contains(&settings.reserved_ports, *port));
        let reserved = u32::try_from(reserved_here.count()).unwrap_or(all);
        Self {
            range: Range {
                low,
                high,
                is_own: false,
                reserved,
                usable: all - reserved,
            },
            reserved: &settings.reserved_ports,
            leaves_one_out: false,
        }
    }

    /// What takes each port, as `taken_by` judges it, and who.
    pub(crate) fn account(
        &self,
        rows: &[Row],
        taken_by: impl Fn(&Row) -> Option<PortState>,
        mut who: impl FnMut(&Row) -> Who,
    ) -> Account {
        let mut states: HashMap<u16, PortState> = HashMap::new();
        let relevant: Vec<(&Row, PortState)> = rows
            .iter()
            .filter(|row| self.is_usable(row.local.port()))
            .filter_map(|row| Some((row, taken_by(row)?)))
            .collect();
        for (row, state) in &relevant {
            let best = states.entry(row.local.port()).or_insert(*state);
            *best = (*best).min_by_rank(*state);
        }
        self.leave_out_the_odd_one(&mut states);
        let mut everyone = Tally::default();
        let mut tallies: HashMap<PortState, Tally> = HashMap::new();
        let mut counted: HashMap<u16, ()> = HashMap::new();
        for (row, state) in relevant {
            let port = row.local.port();
            if states.get(&port) != Some(&state) {
                continue;
            }
            let ports = u32::from(counted.insert(port, ()).is_none());
            let who = who(row);
            everyone.add(who.clone(), ports);
            tallies.entry(state).or_default().add(who, ports);
        }
        let taken = u32::try_from(states.len()).unwrap_or(u32::MAX);
        let mut parts: Vec<Part> = tallies
            .into_iter()
            .map(|(state, tally)| tally.into_part(state))
            .collect();
        parts.sort_by_key(|part| (std::cmp::Reverse(part.ports), part.state.rank()));
        Account {
            range: self.range,
            parts,
            holders: everyone.into_holders(),
            free: self.range.usable.saturating_sub(taken),
        }
    }

    /// Whether the search may find this port.
    pub(crate) fn is_usable(&self, port: u16) -> bool {
        (self.range.low..=self.range.high).contains(&port) && !contains(self.reserved, port)
    }

    /// Where one port was never tried, a single port that is taken for no reason
    /// but that the search failed is that port: it is free.
    fn leave_out_the_odd_one(&self, states: &mut HashMap<u16, PortState>) {
        let inferred: Vec<u16> = states
            .iter()
            .filter(|(_, state)| **state == PortState::BoundElsewhere)
            .map(|(port, _)| *port)
            .collect();
        if let ([port], true) = (&inferred[..], self.leaves_one_out)
            && states.len() == usize::try_from(self.range.usable).unwrap_or_default()
        {
            states.remove(port);
        }
    }
}

fn contains(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges
        .iter()
        .any(|(low, high)| (*low..=*high).contains(&port))
}

/// What `row` takes its port for, if it stands in the way of `scope`.
fn taken_by(scope: &Scope, row: &Row) -> Option<PortState> {
    if scope.kind == Kind::ConnectFailed {
        taken_from_connect(scope, row)
    } else {
        taken_from_bind(scope, row)
    }
}

fn taken_from_connect(scope: &Scope, row: &Row) -> Option<PortState> {
    let is_same_connection = scope.destination == Some(row.remote)
        && scope.source.is_none_or(|source| source == row.local.ip());
    if is_same_connection {
        return state_of(row);
    }
    if scope.cause == Cause::AddressTaken {
        return None;
    }
    match state_of(row)? {
        bound @ (PortState::Listening | PortState::BoundUnused) => Some(bound),
        // The search failed, so something takes this port, and nothing of this
        // destination's is on it: it was bound before it was connected.
        _ if scope.cause == Cause::PortsExhausted => Some(PortState::BoundElsewhere),
        _ => None,
    }
}

fn taken_from_bind(scope: &Scope, row: &Row) -> Option<PortState> {
    let is_in_the_way = scope
        .source
        .is_none_or(|source| overlap(source, row.local.ip()));
    is_in_the_way.then(|| state_of(row)).flatten()
}

/// Whether two local addresses exclude each other on one port: if they are
/// equal, or one is the wildcard. The IPv6 wildcard takes IPv4 with it (unless
/// `IPV6_V6ONLY` is set, which is not known here).
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one == other || covers(one, other) || covers(other, one)
}

/// What a socket takes its port for.
pub(crate) fn state_of(row: &Row) -> Option<PortState> {
    Some(match row.state {
        state::ESTABLISHED => PortState::Established,
        state::CLOSE_WAIT => PortState::CloseWait,
        state::SYN_SENT => PortState::SynSent,
        state::SYN_RECV => PortState::SynRecv,
        state::TIME_WAIT => PortState::TimeWait,
        state::LISTEN => PortState::Listening,
        state::BOUND_INACTIVE => PortState::BoundUnused,
        // An unconnected UDP socket; a TCP socket is not listed in this state.
        state::CLOSE => PortState::BoundUnused,
        // FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK.
        4 | 5 | 9 | 11 => PortState::Closing,
        _ => return None,
    })
}

impl PortState {
    /// Which state a port is said to be in when its sockets are in several.
    fn rank(self) -> u8 {
        match self {
            Self::Listening => 0,
            Self::BoundUnused => 1,
            Self::Established => 2,
            Self::CloseWait => 3,
            Self::SynSent => 4,
            Self::SynRecv => 5,
            Self::Closing => 6,
            Self::TimeWait => 7,
            Self::BoundElsewhere => 8,
        }
    }

    fn min_by_rank(self, other: Self) -> Self {
        if other.rank() < self.rank() {
            other
        } else {
            self
        }
    }
}

/// What holders are told apart by.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Program { comm: Vec<u8>, kernel: bool },
    NotAccepted,
    BeforeTracer,
    Unknown(&'static str),
}

#[derive(Default)]
struct Group {
    ports: u32,
    sockets: u32,
    processes: HashMap<*const Process, (Rc<Process>, u32)>,
}

/// Adds up one part.
#[derive(Default)]
struct Tally {
    groups: HashMap<Key, Group>,
}

impl Tally {
    fn add(&mut self, who: Who, ports: u32) {
        let (key, process) = match who {
            Who::Process(process) => {
                let key = Key::Program {
                    comm: process.comm.clone(),
                    kernel: process.kernel,
                };
                (key, Some(process))
            }
            Who::NotAccepted => (Key::NotAccepted, None),
            Who::BeforeTracer => (Key::BeforeTracer, None),
            Who::Unknown(why) => (Key::Unknown(why), None),
        };
        let group = self.groups.entry(key).or_default();
        group.ports += ports;
        group.sockets += 1;
        if let Some(process) = process {
            let entry = group.processes.entry(Rc::as_ptr(&process));
            entry.or_insert((process, 0)).1 += ports;
        }
    }

    fn into_holders(self) -> Vec<Holder> {
        let mut holders: Vec<Holder> = self.groups.into_iter().map(holder).collect();
        holders.sort_by(|one, other| {
            (other.ports, other.sockets)
                .cmp(&(one.ports, one.sockets))
                .then_with(|| name(one).cmp(name(other)))
        });
        holders
    }

    fn into_part(self, state: PortState) -> Part {
        let holders = self.into_holders();
        Part {
            state,
            ports: holders.iter().map(|holder| holder.ports).sum(),
            sockets: holders.iter().map(|holder| holder.sockets).sum(),
            holders,
        }
    }
}

fn name(holder: &Holder) -> &[u8] {
    match &holder.owner {
        Owner::Processes(program) => &program.comm,
        other => other.name().as_bytes(),
    }
}

fn holder((key, group): (Key, Group)) -> Holder {
    let owner = match key {
        Key::Program { kernel: true, .. } => Owner::Kernel,
        Key::Program { comm, .. } => Owner::Processes(program(comm, group.processes)),
        Key::NotAccepted => Owner::NotAccepted,
        Key::BeforeTracer => Owner::BeforeTracer,
        Key::Unknown(why) => Owner::Unknown(why.into()),
    };
    Holder {
        owner,
        ports: group.ports,
        sockets: group.sockets,
    }
}

fn program(comm: Vec<u8>, processes: HashMap<*const Process, (Rc<Process>, u32)>) -> Program {
    let mut named: Vec<_> = processes.into_values().collect();
    named.sort_by_key(|(process, ports)| (std::cmp::Reverse(*ports), process.pid));
    Program {
        comm,
        count: u32::try_from(named.len()).unwrap_or(u32::MAX),
        named: named
            .into_iter()
            .take(Program::NAMED)
            .map(|(process, ports)| (Process::clone(&process), ports))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: SocketAddr =
        SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 80);
    const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3)), 80);
    const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or(NOWHERE.ip())
    }

    fn row(state: u8, port: u16, remote: SocketAddr) -> Row {
        Row {
            state,
            local: SocketAddr::new(ip("10.0.0.1"), port),
            remote,
            is_ipv6: false,
            inode: 1,
            uid: 0,
            receive_queue: 0,
            send_queue: 0,
            timer_ms: 0,
            drops: None,
        }
    }

    fn connect() -> Scope {
        Scope {
            netns: 1,
            kind: Kind::ConnectFailed,
            cause: Cause::PortsExhausted,
            protocol: 6,
            source: Some(ip("10.0.0.1")),
            destination: Some(SERVER),
            port: None,
            own: (0, 0),
        }
    }

    fn bind(address: &str, port: Option<u16>) -> Scope {
        Scope {
            kind: Kind::BindFailed,
            cause: if port.is_some() {
                Cause::PortInUse
            } else {
                Cause::PortsExhausted
            },
            source: Some(ip(address)),
            destination: None,
            port,
            ..connect()
        }
    }

    fn settings(low: u16, high: u16) -> Settings {
        Settings {
            port_range: Some((low, high)),
            ..Settings::default()
        }
    }

    fn process(pid: u32, comm: &str) -> Rc<Process> {
        Rc::new(Process {
            pid,
            comm: comm.into(),
            ..Process::default()
        })
    }

    /// Parts as `(state, ports, sockets)`, and free ports; every account adds up.
    fn summary(
        scope: &Scope,
        settings: &Settings,
        rows: &[Row],
    ) -> (Vec<(PortState, u32, u32)>, u32) {
        let who = process(7, "curl");
        let account = account(scope, settings, rows, |_| Who::Process(Rc::clone(&who)));
        let Some(account) = account else {
            return (Vec::new(), u32::MAX);
        };
        let taken: u32 = account.parts.iter().map(|part| part.ports).sum();
        assert_eq!(taken + account.free, account.range.usable);
        for part in &account.parts {
            let held: u32 = part.holders.iter().map(|holder| holder.ports).sum();
            assert_eq!(held, part.ports);
        }
        let parts = account.parts.iter();
        (
            parts
                .map(|part| (part.state, part.ports, part.sockets))
                .collect(),
            account.free,
        )
    }

    #[test]
    fn what_takes_a_port_from_a_connect() {
        use PortState::*;
        let rows = [
            row(state::ESTABLISHED, 1000, SERVER),
            row(state::TIME_WAIT, 1001, SERVER),
            row(state::LISTEN, 1002, NOWHERE),
            // Accepted on that listener: the listener is what takes the port.
            row(state::ESTABLISHED, 1002, OTHER),
            row(state::BOUND_INACTIVE, 1003, NOWHERE),
            row(state::ESTABLISHED, 1004, OTHER),
            row(5, 1005, SERVER),
            row(state::SYN_SENT, 1006, SERVER),
            row(state::CLOSE_WAIT, 1007, SERVER),
            // Outside the range.
            row(state::ESTABLISHED, 999, SERVER),
            row(state::ESTABLISHED, 1010, SERVER),
        ];
        let (mut parts, free) = summary(&connect(), &settings(1000, 1009), &rows);
        parts.sort();
        assert_eq!(
            parts,
            [
                (Established, 1, 1),
                (CloseWait, 1, 1),
                (SynSent, 1, 1),
                (Closing, 1, 1),
                (TimeWait, 1, 1),
                (Listening, 1, 1),
                (BoundUnused, 1, 1),
                (BoundElsewhere, 1, 1)
            ]
        );
        assert_eq!(free, 2);
    }

    #[test]
    fn another_source_is_another_connection() {
        let mut other = row(state::ESTABLISHED, 1000, SERVER);
        other.local.set_ip(ip("10.0.0.9"));
        let (parts, _) = summary(&connect(), &settings(1000, 1001), &[other]);
        assert_eq!(parts, [(PortState::BoundElsewhere, 1, 1)]);
    }

    #[test]
    fn the_port_that_an_odd_range_leaves_out_is_free() {
        let rows = [
            row(state::ESTABLISHED, 1000, SERVER),
            row(state::ESTABLISHED, 1001, SERVER),
            row(state::ESTABLISHED, 1002, OTHER),
        ];
        let odd = summary(&connect(), &settings(1000, 1002), &rows);
        assert_eq!(odd, (vec![(PortState::Established, 2, 2)], 1));
        let even = summary(&connect(), &settings(1001, 1002), &rows);
        assert_eq!(
            even,
            (
                vec![
                    (PortState::Established, 1, 1),
                    (PortState::BoundElsewhere, 1, 1)
                ],
                0
            )
        );
    }

    #[test]
    fn bind_is_about_local_addresses() {
        let mut elsewhere = row(state::ESTABLISHED, 1001, SERVER);
        elsewhere.local.set_ip(ip("10.0.0.9"));
        let rows = [row(state::TIME_WAIT, 1000, SERVER), elsewhere];
        let settings = settings(1000, 1001);
        let parts = |address| summary(&bind(address, None), &settings, &rows);
        assert_eq!(parts("10.0.0.1"), (vec![(PortState::TimeWait, 1, 1)], 1));
        let both = vec![(PortState::Established, 1, 1), (PortState::TimeWait, 1, 1)];
        assert_eq!(parts("0.0.0.0"), (both.clone(), 0));
        assert_eq!(parts("::"), (both, 0));
        assert_eq!(parts("::1"), (vec![], 2));
        assert_eq!(parts("10.0.0.8"), (vec![], 2));
    }

    #[test]
    fn one_port_may_have_many_sockets() {
        let rows: Vec<Row> = (1..=40)
            .map(|client| {
                let remote = SocketAddr::new(ip("10.0.0.7"), 50_000 + client);
                row(state::TIME_WAIT, 80, remote)
            })
            .collect();
        let restart = bind("0.0.0.0", Some(80));
        assert_eq!(
            summary(&restart, &settings(1000, 1001), &rows),
            (vec![(PortState::TimeWait, 1, 40)], 0)
        );
        // A port that is reserved can still be asked for.
        let mut reserved = settings(1, 1000);
        reserved.reserved_ports = vec![(80, 80)];
        assert_eq!(summary(&restart, &reserved, &rows).1, 0);
    }

    #[test]
    fn a_clash_is_about_one_connection() {
        let clash = Scope {
            cause: Cause::AddressTaken,
            port: Some(1000),
            ..connect()
        };
        let rows = [
            row(state::TIME_WAIT, 1000, SERVER),
            row(state::ESTABLISHED, 1000, OTHER),
        ];
        assert_eq!(
            summary(&clash, &settings(1000, 1001), &rows),
            (vec![(PortState::TimeWait, 1, 1)], 0)
        );
    }

    #[test]
    fn ranges() {
        let range = |scope: &Scope, settings: &Settings| {
            account(scope, settings, &[], |_| Who::NotAccepted).map(|account| {
                let range = account.range;
                (
                    range.low,
                    range.high,
                    range.is_own,
                    range.reserved,
                    account.free,
                )
            })
        };
        let mut settings = settings(1000, 1009);
        settings.reserved_ports = vec![(1, 3), (1005, 1006), (1009, 2000)];
        assert_eq!(
            range(&connect(), &settings),
            Some((1000, 1009, false, 3, 7))
        );
        let own = |low, high| Scope {
            own: (low, high),
            ..connect()
        };
        settings.reserved_ports.clear();
        for (scope, low, high) in [
            (own(1002, 1003), 1002, 1003),
            (own(1002, 0), 1002, 1009),
            (own(0, 1003), 1000, 1003),
            // Outside: the namespace's own end stays.
            (own(500, 1003), 1000, 1003),
        ] {
            let usable = u32::from(high - low) + 1;
            assert_eq!(
                range(&scope, &settings),
                Some((low, high, true, 0, usable)),
                "{:?}",
                scope.own
            );
        }
        assert_eq!(range(&connect(), &Settings::default()), None);
        let whole = super::tests::settings(0, 65535);
        assert_eq!(range(&connect(), &whole).map(|range| range.4), Some(65536));
    }

    #[test]
    fn holders_are_programs() {
        let curls: Vec<_> = (0..20).map(|n| process(100 + n, "curl")).collect();
        let nginx = process(7, "nginx");
        let rows: Vec<Row> = (0..100)
            .map(|n| row(state::TIME_WAIT, 1000 + n, SERVER))
            .collect();
        let account = account(&connect(), &settings(1000, 1099), &rows, |row| {
            match row.local.port() - 1000 {
                0..=9 => Who::BeforeTracer,
                10..=39 => Who::Process(Rc::clone(&nginx)),
                n => Who::Process(Rc::clone(&curls[usize::from(n % 20)])),
            }
        });
        let parts = account.map(|account| account.parts).unwrap_or_default();
        let holders: Vec<_> = parts[0]
            .holders
            .iter()
            .map(|holder| match &holder.owner {
                Owner::Processes(program) => (program.comm.clone(), program.count, holder.ports),
                other => (other.name().into(), 0, holder.ports),
            })
            .collect();
        assert_eq!(
            holders,
            [
                (b"curl".to_vec(), 20, 60),
                (b"nginx".to_vec(), 1, 30),
                (b"before_tracer".to_vec(), 0, 10)
            ]
        );
        let Owner::Processes(curl) = &parts[0].holders[0].owner else {
            unreachable!("curl comes first")
        };
        assert_eq!(curl.named.len(), Program::NAMED);
        assert_eq!(curl.named[0].1, 3);
    }
}

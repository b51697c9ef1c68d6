//! Where did the ports go? Pure: sockets in, the account of a port range out.

mod taken;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tracer_common::{Cause, Kind};

use super::finding::{Holder, Part, PortState, Range, Settings};
use crate::{
    host::sock_diag::Row,
    model::{Netns, Process},
};

use taken::taken_by;
use tally::Tally;

pub(crate) use taken::state_of;

/// What a census is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) netns: Netns,
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

//! Which failures get a census? Every one that is about ports, but failures of
//! one kind towards one destination share one for a while. Pure but for time,
//! which is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracer_common::{Cause, Kind};

use super::census::Scope;
use crate::model::Failure;

/// Failures in this time share a census; twice as long each time, up to
/// [`LONGEST`], while they go on.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

/// Destinations in that time; beyond it failures go without a census.
const DESTINATIONS: usize = 256;

/// Hands out censuses.
#[derive(Default)]
pub(crate) struct Desk {
    last: HashMap<Scope, Last>,
}

/// The last census of a scope.
struct Last {
    id: u64,
    asked: Instant,
    /// For how long it is shared.
    shared: Duration,
}

impl Last {
    fn is_shared(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < self.shared
    }

    /// Whether failures since then would be the same story.
    fn goes_on(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < self.shared * 3
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// There is one.
    Shared(u64),
    /// Take one, and call it this.
    New(u64, Scope),
}

impl Desk {
    /// The census that goes with a failure; `None`: it is not about ports, or
    /// there are too many destinations.
    pub(crate) fn ask(
        &mut self,
        failure: &Failure,
        now: Instant,
        next_id: impl FnOnce() -> u64,
    ) -> Option<Given> {
        let scope = scope(failure)?;
        self.last.retain(|_, last| last.goes_on(now));
        let shared = match self.last.get(&scope) {
            Some(last) if last.is_shared(now) => return Some(Given::Shared(last.id)),
            Some(last) => LONGEST.min(last.shared * 2),
            None if self.last.len() >= DESTINATIONS => return None,
            None => SHORTEST,
        };
        let id = next_id();
        let last = Last {
            id,
            asked: now,
            shared,
        };
        self.last.insert(scope.clone(), last);
        Some(Given::New(id, scope))
    }
}

/// What a census of this failure is about.
fn scope(failure: &Failure) -> Option<Scope> {
    let local = failure.local?;
    let is_one_port = match (failure.kind, failure.cause) {
        (Kind::ConnectFailed | Kind::BindFailed | Kind::ListenFailed, Cause::PortsExhausted) => {
            false
        }
        (Kind::ConnectFailed, Cause::AddressTaken)
        | (Kind::BindFailed | Kind::ListenFailed, Cause::PortInUse) => true,
        _ => return None,
    };
    let is_connect = failure.kind == Kind::ConnectFailed;
    Some(Scope {
        netns: failure.life(),
        kind: failure.kind,
        cause: failure.cause,
        protocol: match i32::from(failure.protocol) {
            libc::IPPROTO_UDP => failure.protocol,
            // MPTCP takes the ports of TCP.
            _ => u16::try_from(libc::IPPROTO_TCP).unwrap_or_default(),
        },
        source: (!is_connect || !local.ip().is_unspecified()).then_some(local.ip()),
        destination: failure.remote.filter(|_| is_connect),
        port: is_one_port.then_some(local.port()),
        own: failure.own_range.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: Kind, cause: Cause, local: &str, remote: Option<&str>) -> Failure {
        Failure {
            kind,
            cause,
            local: local.parse().ok(),
            remote: remote.and_then(|remote| remote.parse().ok()),
            protocol: 262,
            ..Failure::example()
        }
    }

    #[test]
    fn what_a_census_is_about() {
        use Cause::*;
        use Kind::*;
        let to = Some("10.0.0.2:80");
        let about = |kind, cause, local, remote| {
            scope(&failure(kind, cause, local, remote)).map(|scope| {
                assert_eq!(scope.protocol, 6);
                let text = |ip: std::net::IpAddr| ip.to_string();
                (scope.source.map(text), scope.destination, scope.port)
            })
        };
        let own = Some("10.0.0.1".to_owned());
        let remote = to.and_then(|to| to.parse().ok());
        assert_eq!(
            about(ConnectFailed, PortsExhausted, "10.0.0.1:0", to),
            Some((own.clone(), remote, None))
        );
        assert_eq!(
            about(ConnectFailed, AddressTaken, "10.0.0.1:7", to),
            Some((own, remote, Some(7)))
        );
        assert_eq!(
            about(BindFailed, PortInUse, "0.0.0.0:80", None),
            Some((Some("0.0.0.0".to_owned()), None, Some(80)))
        );
        assert_eq!(
            about(ConnectFailed, PortsExhausted, "0.0.0.0:0", to),
            Some((None, remote, None))
        );
        assert_eq!(about(ConnectFailed, NoSourceAddress, "[::]:0", to), None);
        assert_eq!(about(SynDropped, AcceptQueueFull, "0.0.0.0:80", to), None);
    }

    #[test]
    fn a_destination_shares_one_for_a_while() {
        let mut desk = Desk::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let failure = |remote: &str| {
            failure(
                Kind::ConnectFailed,
                Cause::PortsExhausted,
                "10.0.0.1:0",
                Some(remote),
            )
        };
        let one = failure("10.0.0.2:80");
        let is_new = |given: Option<Given>| match given {
            Some(Given::New(id, _)) => Some((true, id)),
            Some(Given::Shared(id)) => Some((false, id)),
            None => None,
        };
        assert_eq!(is_new(desk.ask(&one, at(0), || 1)), Some((true, 1)));
        assert_eq!(is_new(desk.ask(&one, at(999), || 2)), Some((false, 1)));
        assert_eq!(is_new(desk.ask(&one, at(1000), || 2)), Some((true, 2)));
        let other = failure("10.0.0.2:81");
        assert_eq!(is_new(desk.ask(&other, at(1000), || 3)), Some((true, 3)));
        // It goes on: longer each time.
        for (ms, expected) in [(2999, (false, 2)), (3000, (true, 4)), (6999, (false, 4))] {
            assert_eq!(is_new(desk.ask(&one, at(ms), || 4)), Some(expected), "{ms}");
        }
        // It was quiet for a while.
        assert_eq!(is_new(desk.ask(&one, at(20_000), || 5)), Some((true, 5)));
        assert_eq!(is_new(desk.ask(&one, at(21_000), || 6)), Some((true, 6)));
        for port in 1000..2000 {
            let remote = format!("10.0.0.3:{port}");
            desk.ask(&failure(&remote), at(21_001), || 9);
        }
        assert_eq!(desk.last.len(), DESTINATIONS);
        assert_eq!(desk.ask(&other, at(21_002), || 9), None);
        assert_eq!(is_new(desk.ask(&one, at(21_002), || 9)), Some((false, 6)));
        assert_eq!(is_new(desk.ask(&other, at(40_000), || 7)), Some((true, 7)));
    }
}

//! Findings that nobody would think of.

use std::net::{IpAddr, SocketAddr};

use tracer_common::{Cause, Kind};

use super::findings::{connect, ghost, holder, of, process, queue, with};
use crate::{
    explain::finding::{
        Asked, Census, Holder, Owner, Part, PortState::*, Program, QueueFinding, Settings,
    },
    model::Process,
};

/// Numbers that look random and are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap_or_default() % sides.max(1)
    }

    pub(crate) fn of<T: Clone>(&mut self, choice: &[T]) -> Option<T> {
        let sides = u32::try_from(choice.len()).unwrap_or_default();
        let index = usize::try_from(self.roll(sides)).unwrap_or_default();
        choice.get(index).cloned()
    }

    fn settings(&mut self) -> Settings {
        Settings {
            port_range: self
                .of(&[
                    None,
                    Some((32768, 60999)),
                    Some((40000, 40004)),
                    Some((1, 65535)),
                ])
                .flatten(),
            reserved_ports: vec![(40001, 40002)],
            tw_reuse: self.of(&[None, Some(0), Some(1), Some(2)]).flatten(),
            tw_reuse_delay: self.of(&[None, Some(1), Some(1000), Some(60000)]).flatten(),
            timestamps: self.of(&[None, Some(0), Some(1)]).flatten(),
            max_tw_buckets: None,
            somaxconn: self
                .of(&[None, Some(0), Some(128), Some(u32::MAX)])
                .flatten(),
            max_syn_backlog: self.of(&[None, Some(0), Some(512)]).flatten(),
            syncookies: self.of(&[None, Some(0), Some(1), Some(2)]).flatten(),
            abort_on_overflow: self.of(&[None, Some(0), Some(1)]).flatten(),
            synack_retries: None,
            has_own_range: self.roll(2) == 0,
        }
    }

    fn owner(&mut self, ports: u32) -> Owner {
        let names = ["curl", "", "\n\u{1b}[2J", "\u{9b}31m\u{2028}"];
        match self.roll(6) {
            0 => Owner::Kernel,
            1 => Owner::NotAccepted,
            2 => Owner::BeforeTracer,
            3 => Owner::Unknown("gone".into()),
            _ => match holder(self.of(&names).unwrap_or_default(), ports).owner {
                Owner::Processes(program) => Owner::Processes(Program {
                    count: self.roll(3),
                    ..program
                }),
                other => other,
            },
        }
    }

    fn parts(&mut self, most: u32) -> Vec<Part> {
        let states = [
            Established,
            CloseWait,
            SynSent,
            SynRecv,
            Closing,
            TimeWait,
            Listening,
            BoundUnused,
            BoundElsewhere,
        ];
        let mut parts = Vec::new();
        let one_in = self.of(&[3, 9]).unwrap_or(3);
        for state in states {
            if self.roll(one_in) > 0 {
                continue;
            }
            let ports = self.roll(most) + 1;
            let holder = Holder {
                owner: self.owner(ports),
                ports,
                sockets: ports,
            };
            parts.push(Part {
                holders: vec![holder],
                ..of(state, ports)
            });
        }
        parts.sort_by_key(|part| std::cmp::Reverse(part.ports));
        parts
    }

    pub(crate) fn census(&mut self) -> Census {
        let most = self.of(&[1, 5, 28232]).unwrap_or(1);
        let causes = [
            Cause::PortsExhausted,
            Cause::PortsExhausted,
            Cause::AddressTaken,
            Cause::PortInUse,
            Cause::Other,
        ];
        let kinds = [Kind::ConnectFailed, Kind::BindFailed, Kind::ListenFailed];
        let addresses: [Option<IpAddr>; 4] =
            ["10.0.0.1", "0.0.0.0", "::1", ""].map(|text| text.parse().ok());
        with(connect(self.parts(most)), |it| {
            it.kind = self.of(&kinds).unwrap_or(it.kind);
            it.cause = self.of(&causes).unwrap_or(it.cause);
            it.protocol = self.of(&[6, 17, 262]).unwrap_or(6);
            it.source = self.of(&addresses).flatten();
            it.destination = self
                .of(&addresses)
                .flatten()
                .map(|ip| SocketAddr::new(ip, 80));
            it.range.low = self.of(&[1, 32768]).unwrap_or(1);
            it.range.high = self.of(&[32768, 65535]).unwrap_or(65535);
            it.range.is_own = self.roll(2) == 0;
            it.range.reserved = self.roll(60000);
            it.range.usable = self.roll(60000);
            it.settings = self.settings();
        })
    }

    fn rate(&mut self) -> Option<f64> {
        self.of(&[None, Some(0.0), Some(0.04), Some(99.0), Some(1e9)])
            .flatten()
    }

    pub(crate) fn queue(&mut self) -> QueueFinding {
        let limits = [0, 2, 128, 4096, u32::MAX];
        let number = |dice: &mut Self| dice.of(&[0, 1, u64::MAX]).unwrap_or_default();
        let processes = [
            None,
            Some(process("\u{7f}\u{85}", 0)),
            Some(Process::kernel(b"nfsd")),
        ];
        queue(|it| {
            it.cause = self.of(Cause::ALL).unwrap_or(it.cause);
            it.local = it.local.filter(|_| self.roll(2) == 0);
            it.process = self.of(&processes).flatten();
            it.accept_queue.max = self.of(&limits).unwrap_or_default();
            it.request_queue.max = self.of(&limits).unwrap_or_default();
            it.asked = self
                .of(&[None, Some(-1), Some(0), Some(128), Some(i32::MAX)])
                .flatten()
                .map(|backlog| Asked {
                    backlog,
                    somaxconn: self.of(&limits).unwrap_or_default(),
                });
            it.ack_drops = number(self);
            it.resets = number(self);
            it.arrivals_per_s = self.rate();
            it.accepts_per_s = self.rate();
            if self.roll(4) == 0 {
                it.accept_failures = number(self);
                it.accept_errno = self.of(&[24, 23, 105, 1]);
            }
            if self.roll(2) == 0 {
                ghost(self.of(&processes).flatten())(it);
            }
            it.ghost_count = number(self);
            it.settings = self.settings();
        })
    }
}

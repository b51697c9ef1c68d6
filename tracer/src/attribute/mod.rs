//! Who is it? Turns a decoded event into a [`Failure`] with processes.
//!
//! What the kernel side saw on a process's behalf (pid, start time, name) is
//! always right; /proc adds to it only where it still shows the same process.

pub(crate) mod cgroup;
mod forget;
pub(crate) mod holders;
mod names;
pub(crate) mod namespaces;
mod pace;
pub(crate) mod process;

use jiff::Timestamp;
use tracer_common::{Family, Hook, flag};

use crate::{
    decode::{Decoded, comm},
    host::{clock, netns},
    model::{Asked, Failure, Process, Queue, Role},
    source::counters::{Key, Party},
};
use holders::Holders;
use process::Processes;

const IPPROTO_TCP: u16 = 6;

/// Attributes events; keeps what it learned about processes and listeners.
pub(crate) struct Attributor {
    processes: Processes,
    holders: Holders,
}

impl Attributor {
    /// Remembers who holds which listener right now, so that a process that
    /// goes away with its drops can still be named.
    pub(crate) fn new() -> Self {
        let mut processes = Processes::new();
        let holders = Holders::new(&mut processes);
        Self { processes, holders }
    }

    /// Every process that /proc shows now.
    pub(crate) fn everyone(&mut self) -> Vec<Process> {
        let pids = netns::pids();
        pids.filter_map(|pid| self.processes.look_up(pid, None))
            .collect()
    }

    /// Names the processes of an event.
    pub(crate) fn attribute(&mut self, event: &Decoded) -> Failure {
        let is_drop = event.kind.is_drop();
        let (process, holders) = if is_drop {
            self.listener(event)
        } else {
            (self.caller(event), Vec::new())
        };
        let raw = &event.raw;
        let queue = |len, max| is_drop.then_some(Queue { len, max });
        Failure {
            time: clock::wall_time(raw.time_ns),
            count: 1,
            since: None,
            kind: event.kind,
            cause: event.cause,
            hook: event.hook,
            errno: (raw.errno != 0).then_some(raw.errno),
            process,
            holders,
            netns: raw.netns,
            netns_cookie: raw.netns_cookie,
            netns_name: None,
            family: event.family,
            protocol: raw.protocol,
            local: event.local,
            remote: event.remote,
            inode: (raw.inode != 0).then_some(raw.inode),
            accept_queue: queue(raw.accept_len, raw.accept_max),
            request_queue: queue(raw.request_len, raw.request_max),
            syncookie: raw.flags & flag::SYNCOOKIE != 0,
            asked: (raw.flags & flag::ASKED != 0)
                .then_some(Asked {
                    backlog: raw.asked,
                    somaxconn: raw.somaxconn,
                })
                // Else listen() was called again since, and that was not seen.
                .filter(|asked| asked.limit() == raw.accept_max),
            own_range: (raw.own_low != 0 || raw.own_high != 0)
                .then_some((raw.own_low, raw.own_high)),
            census: None,
            queue: None,
        }
    }

    /// A failure of a process or at a listener of which none was described: what /proc
    /// still tells about whose it is. `None`: nothing.
    pub(crate) fn of_party(&mut self, key: &Key) -> Option<Failure> {
        let (process, holders, inode) = match key.party {
            Party::Process(pid, start) => {
                let known = self.processes.look_up(pid, Some(start));
                let process = known.unwrap_or(Process {
                    pid,
                    ..Process::default()
                });
                (Some((process, Role::Caller)), Vec::new(), None)
            }
            Party::Listener(inode) => {
                let holders = self.holders.of(inode, &mut self.processes);
                (responsible(None, None, &holders), holders, Some(inode))
            }
            Party::Nobody => return None,
        };
        Some(Failure {
            time: Timestamp::now(),
            count: 1,
            since: None,
            kind: key.kind,
            cause: key.cause,
            // Which one is not known of those that were not described.
            hook: Hook::RawTpSetState,
            errno: None,
            process,
            holders,
            netns: key.netns.inum,
            netns_cookie: key.netns.cookie,
            netns_name: None,
            family: Family::None,
            protocol: IPPROTO_TCP,
            local: None,
            remote: None,
            inode,
            accept_queue: None,
            request_queue: None,
            syncookie: false,
            asked: None,
            own_range: None,
            census: None,
            queue: None,
        })
    }

    /// The process that made the call that failed.
    fn caller(&mut self, event: &Decoded) -> Option<(Process, Role)> {
        let caller = &event.raw.caller;
        if caller.flags & flag::KERNEL_THREAD == 0 {
            return self
                .processes
                .of_task(caller)
                .map(|process| (process, Role::Caller));
        }
        // A kernel thread works for someone if a process holds the socket:
        // the extra subflows of an MPTCP connection.
        let holder = self
            .holders
            .of(event.raw.inode, &mut self.processes)
            .into_iter()
            .next();
        Some(match holder {
            Some(holder) => (holder, Role::Holder),
            None => (Process::kernel(comm(caller)), Role::Caller),
        })
    }

    /// The process responsible for a listener, and all that hold it.
    fn listener(&mut self, event: &Decoded) -> (Option<(Process, Role)>, Vec<Process>) {
        let raw = &event.raw;
        let holders = self.holders.of(raw.inode, &mut self.processes);
        let opener = self.processes.of_task(&raw.listener);
        let acceptor = self.processes.of_task(&raw.acceptor);
        let fallback = (raw.flags & flag::KERNEL_SOCKET != 0)
            .then(|| (Process::kernel(b"kernel"), Role::Holder));
        let process = responsible(acceptor, opener, &holders).or(fallback);
        (process, holders)
    }
}

/// Who answers for a listener: who accepts from it, else who opened it, else
/// who holds it. A process that no longer holds it answers only if nobody does.
/// pid 1 opens sockets on behalf of the services it starts, so it answers last.
fn responsible(
    acceptor: Option<Process>,
    opener: Option<Process>,
    holders: &[Process],
) -> Option<(Process, Role)> {
    let holds = |process: &Process| {
        holders.is_empty() || holders.iter().any(|holder| holder.pid == process.pid)
    };
    let acts_for_others = |process: &Process| process.pid == 1 && holders.len() > 1;
    if let Some(acceptor) = acceptor.filter(&holds) {
        return Some((acceptor, Role::Acceptor));
    }
    if let Some(opener) = opener.filter(|opener| holds(opener) && !acts_for_others(opener)) {
        return Some((opener, Role::Listener));
    }
    let first = holders.iter().find(|holder| !acts_for_others(holder));
    first.cloned().map(|holder| (holder, Role::Holder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process {
            pid,
            ..Process::default()
        }
    }

    fn verdict(acceptor: Option<u32>, opener: Option<u32>, holders: &[u32]) -> Option<(u32, Role)> {
        let holders: Vec<_> = holders.iter().copied().map(process).collect();
        responsible(acceptor.map(process), opener.map(process), &holders)
            .map(|(process, role)| (process.pid, role))
    }

    #[test]
    fn who_answers_for_a_listener() {
        let table = [
            // A server that accepts.
            (Some(7), Some(7), &[7][..], Some((7, Role::Acceptor))),
            // It never accepted.
            (None, Some(7), &[7], Some((7, Role::Listener))),
            // Prefork: a child accepted last.
            (Some(9), Some(7), &[7, 8, 9], Some((9, Role::Acceptor))),
            // That child is gone.
            (Some(9), Some(7), &[7, 8], Some((7, Role::Listener))),
            // The opener passed the socket on and closed it.
            (None, Some(7), &[8], Some((8, Role::Holder))),
            // Everybody is gone.
            (Some(9), Some(7), &[], Some((9, Role::Acceptor))),
            (None, Some(7), &[], Some((7, Role::Listener))),
            // Older than tracer.
            (None, None, &[8, 9], Some((8, Role::Holder))),
            // Socket activation.
            (None, Some(1), &[1, 9], Some((9, Role::Holder))),
            (None, Some(1), &[1], Some((1, Role::Listener))),
            (None, None, &[], None),
        ];
        for (acceptor, opener, holders, expected) in table {
            assert_eq!(
                verdict(acceptor, opener, holders),
                expected,
                "{acceptor:?} {opener:?} {holders:?}"
            );
        }
    }
}

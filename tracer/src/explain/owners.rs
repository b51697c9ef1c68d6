//! Who has which socket? By its inode in /proc while a process has it open, by
//! who closed it after that.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    census::Who,
    closers::{End, Recalled},
};
use crate::{
    attribute::process::Processes,
    host::{
        descriptors,
        sock_diag::{Row, state},
    },
    model::Process,
};

/// Why the process that closed a connection is not known.
pub(crate) const UNWATCHED: &str = "nobody watched who closed it";

/// The open sockets of all processes, as they were at one moment.
pub(crate) struct Holders {
    pids: HashMap<u64, Vec<u32>>,
}

impl Holders {
    /// Finds who has the sockets in `rows` open.
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let wanted: HashSet<u64> = rows.into_iter().map(|row| row.inode).collect();
        Self {
            pids: descriptors::holders(|inode| wanted.contains(&inode)),
        }
    }

    /// All that have the socket open, by pid, pid 1 last.
    pub(crate) fn pids(&self, inode: u64) -> &[u32] {
        self.pids.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// Answers for the sockets of one namespace.
pub(crate) struct Owners<'a> {
    holders: &'a Holders,
    closers: Option<&'a Recalled>,
    processes: &'a mut Processes,
    by_pid: HashMap<u32, Option<Rc<Process>>>,
    by_closer: HashMap<(u32, u64), Rc<Process>>,
}

impl<'a> Owners<'a> {
    /// `closers`: what is remembered about these sockets; `None`: nobody watches
    /// who closes.
    pub(crate) fn new(
        holders: &'a Holders,
        closers: Option<&'a Recalled>,
        processes: &'a mut Processes,
    ) -> Self {
        Self {
            holders,
            closers,
            processes,
            by_pid: HashMap::new(),
            by_closer: HashMap::new(),
        }
    }

    /// Who has this socket; of several processes the first.
    pub(crate) fn who(&mut self, row: &Row) -> Who {
        if row.inode != 0 {
            let holder = self.holder(row.inode).map(Who::Process);
            return holder.unwrap_or_else(|| self.closed(row));
        }
        match row.state {
            state::ESTABLISHED | state::SYN_RECV | state::CLOSE_WAIT => Who::NotAccepted,
            _ => self.closed(row),
        }
    }

    fn holder(&mut self, inode: u64) -> Option<Rc<Process>> {
        let pids = self.holders.pids(inode);
        pids.iter().find_map(|pid| {
            let processes = &mut *self.processes;
            let known = self.by_pid.entry(*pid);
            known
                .or_insert_with(|| processes.look_up(*pid, None).map(Rc::new))
                .clone()
        })
    }

    fn closed(&mut self, row: &Row) -> Who {
        const NO_HOLDER: &str = "no process in sight has it open";
        let Some(closers) = self.closers else {
            return Who::Unknown(match row.inode {
                0 => UNWATCHED,
                _ => NO_HOLDER,
            });
        };
        match closers.end(row) {
            End::By(task) => {
                let processes = &mut *self.processes;
                let known = self.by_closer.entry((task.tgid, task.start_ns));
                let process =
                    known.or_insert_with(|| Rc::new(processes.of_task(&task).unwrap_or_default()));
                Who::Process(Rc::clone(process))
            }
            // A socket that no process has open, and that nobody closed.
            _ if row.inode != 0 => Who::Unknown(NO_HOLDER),
            // The peer closed first, and this end is not remembered.
            _ if row.state == state::LAST_ACK => Who::Unknown("closed after its peer"),
            End::Before => Who::BeforeTracer,
            End::Forgotten => Who::Unknown("too many were closed since"),
        }
    }
}

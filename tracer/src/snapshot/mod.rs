//! `tracer ports` and `tracer listeners`: what is there now, told without a
//! failure and without a hook.
//!
//! [`places`] reads every network namespace that can be entered (facts);
//! [`mod@ports`] and [`mod@listeners`] make tables of what was read (pure).

pub(crate) mod listeners;
pub(crate) mod places;
pub(crate) mod ports;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Instant,
};

use jiff::Timestamp;

use crate::{
    attribute::{namespaces, process::Processes},
    cli,
    exit::Failed,
    explain::{
        census::Who,
        finding::BoundUnused,
        owners::{Holders, Owners},
        snapshot,
    },
    host::{
        settings,
        sock_diag::{ALL_STATES, LISTENERS, Protocol, Row, state},
    },
    model::Process,
    output::{print, say},
};
use listeners::Listener;
use places::Look;
use ports::{Sockets, Table};

/// What a snapshot is of, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) time: Timestamp,
    begun: Instant,
}

impl Taken {
    fn now() -> Self {
        Self {
            time: Timestamp::now(),
            begun: Instant::now(),
        }
    }

    /// How long it took until now.
    pub(crate) fn took_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// `tracer ports`; returns the exit code.
///
/// # Errors
/// See [`Failed`]. A closed standard output is no error: nobody reads on.
pub(crate) fn ports(arguments: &cli::Ports) -> Result<u8, Failed> {
    let taken = Taken::now();
    let Look {
        found,
        mut degradations,
    } = places::look(|| {
        let tcp = snapshot::list(Protocol::Tcp, ALL_STATES)?;
        // Without it everything else is still worth being told.
        let udp = snapshot::list(Protocol::Udp, ALL_STATES);
        Ok((settings::read(), tcp, udp))
    })?;
    let mut all = Vec::new();
    for (place, (settings, tcp, udp)) in found {
        if let Err(error) = &udp {
            let said = format!("UDP sockets cannot be listed: {error}");
            if !degradations.contains(&said) {
                degradations.push(said);
            }
        }
        all.push(Sockets {
            place,
            settings,
            tcp,
            udp: udp.ok(),
        });
    }
    let bound_unused = add_unlisted(&mut all);
    let holders = Holders::of(all.iter().flat_map(Sockets::rows));
    let mut processes = Processes::new();
    let mut owners = Owners::new(&holders, None, &mut processes);
    let limit = arguments.limit();
    let mut tables: Vec<_> = all
        .iter()
        .filter_map(|sockets| ports::table(sockets, limit, |row| owners.who(row)))
        .collect();
    ports::most_exhausted_first(&mut tables);
    tell(&degradations);
    written(print::ports(
        arguments.format,
        taken,
        &tables,
        &bound_unused,
    ))
}

/// Adds the bound, unused sockets that the kernel does not list to the namespace
/// they are in; says how such sockets were found.
fn add_unlisted(all: &mut [Sockets]) -> BoundUnused {
    let (how, found) = snapshot::unlisted(all.iter().flat_map(Sockets::rows));
    let mut by_netns: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    for (netns, row) in found {
        by_netns.entry(netns).or_default().push(row);
    }
    for sockets in all {
        let rows = by_netns.remove(&sockets.place.netns);
        sockets.tcp.extend(rows.unwrap_or_default());
    }
    how
}

/// Sockets of a listener that are no listeners: requests, and connections that
/// may still wait in its queue.
const TOWARDS_LISTENERS: u32 = 1 << state::SYN_RECV
    | 1 << state::NEW_SYN_RECV
    | 1 << state::ESTABLISHED
    | 1 << state::CLOSE_WAIT;

/// `tracer listeners`; returns the exit code.
///
/// # Errors
/// See [`Failed`]. A closed standard output is no error: nobody reads on.
pub(crate) fn listeners(arguments: &cli::Listeners) -> Result<u8, Failed> {
    let taken = Taken::now();
    let Look {
        found,
        degradations,
    } = places::look(|| {
        let listening = snapshot::list(Protocol::Tcp, LISTENERS)?;
        // Nothing can be on its way to nobody.
        let others = if listening.is_empty() {
            Vec::new()
        } else {
            snapshot::list(Protocol::Tcp, TOWARDS_LISTENERS)?
        };
        Ok((listening, others, namespaces::here().ok()))
    })?;
    let holders = Holders::of(found.iter().flat_map(|(_, (listening, ..))| listening));
    let mut people = People {
        processes: Processes::new(),
        by_pid: HashMap::new(),
    };
    let mut all = Vec::new();
    let mut counters = Vec::new();
    for (place, (listening, others, netstat)) in &found {
        let who = |inode| people.of(holders.pids(inode));
        all.extend(listeners::table(place, listening, others, who));
        if let (Some(netstat), false) = (netstat, listening.is_empty()) {
            counters.push((place.clone(), *netstat));
        }
    }
    listeners::fullest_first(&mut all);
    tell(&degradations);
    written(print::listeners(arguments.format, taken, &all, &counters))
}

/// So many listeners are told.
const TOLD: usize = 1024;

/// Who listens, told in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) told: Vec<Listener>,
    /// How many there are beyond those.
    pub(crate) more: usize,
}

/// Looks who listens, in every namespace.
///
/// # Errors
/// As for [`listeners()`].
pub(crate) fn listening() -> Result<Listening, Failed> {
    let look = places::look(|| snapshot::list(Protocol::Tcp, LISTENERS))?;
    let holders = Holders::of(look.found.iter().flat_map(|(_, listening)| listening));
    let mut people = People {
        processes: Processes::new(),
        by_pid: HashMap::new(),
    };
    let mut all: Vec<_> = look
        .found
        .iter()
        .flat_map(|(place, listening)| listening.iter().map(move |row| (place, row)))
        .collect();
    let more = all.len().saturating_sub(TOLD);
    all.truncate(TOLD);
    let told = all.into_iter().flat_map(|(place, row)| {
        let row = std::slice::from_ref(row);
        listeners::table(place, row, &[], |inode| people.of(holders.pids(inode)))
    });
    Ok(Listening {
        told: told.collect(),
        more,
    })
}

/// The fullest queues of all listeners, up to `limit`, and how many there are
/// beyond those.
///
/// # Errors
/// As for [`listeners()`].
pub(crate) fn fullest(limit: usize) -> Result<(Vec<Listener>, usize), Failed> {
    let look = places::look(|| snapshot::list(Protocol::Tcp, LISTENERS))?;
    let mut people = People {
        processes: Processes::new(),
        by_pid: HashMap::new(),
    };
    let holders = Holders::of(look.found.iter().flat_map(|(_, listening)| listening));
    let mut all: Vec<_> = look
        .found
        .iter()
        .flat_map(|(place, listening)| listeners::table(place, listening, &[], |_| Vec::new()))
        .collect();
    listeners::fullest_first(&mut all);
    let more = all.len().saturating_sub(limit);
    all.truncate(limit);
    for one in &mut all {
        one.holders = people.of(holders.pids(one.inode));
    }
    Ok((all, more))
}

/// The ports of every namespace, most exhausted first, with up to `limit`
/// destinations each. Owners are not looked for, nor bound, unused sockets on
/// kernels that do not list them: for both every descriptor of the host is read.
///
/// # Errors
/// As for [`ports()`].
pub(crate) fn tables(limit: usize) -> Result<Vec<Table>, Failed> {
    let look = places::look(|| {
        let tcp = snapshot::list(Protocol::Tcp, ALL_STATES)?;
        Ok((settings::read(), tcp))
    })?;
    let mut tables: Vec<_> = look
        .found
        .into_iter()
        .filter_map(|(place, (settings, tcp))| {
            let sockets = Sockets {
                place,
                settings,
                tcp,
                udp: None,
            };
            ports::table(&sockets, limit, |_| Who::Unknown("not asked"))
        })
        .collect();
    ports::most_exhausted_first(&mut tables);
    Ok(tables)
}

/// Processes that were looked up; each once.
struct People {
    processes: Processes,
    by_pid: HashMap<u32, Option<Process>>,
}

impl People {
    fn of(&mut self, pids: &[u32]) -> Vec<Process> {
        let processes = &mut self.processes;
        pids.iter()
            .filter_map(|pid| {
                let known = self.by_pid.entry(*pid);
                known
                    .or_insert_with(|| processes.look_up(*pid, None))
                    .clone()
            })
            .collect()
    }
}

fn tell(degradations: &[String]) {
    for degradation in degradations {
        say(&format!("tracer: {degradation}"));
    }
}

fn written(result: io::Result<()>) -> Result<u8, Failed> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failed::Running(
            anyhow::Error::new(error).context("standard output cannot be written"),
        )),
        _ => Ok(0),
    }
}

//! What sockets, and what settings, does a network namespace have right now?

use std::{collections::HashSet, io, net::SocketAddr, os::fd::AsFd, sync::OnceLock};

use rustix::{
    net::{AddressFamily, SocketType, bind, socket},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{bound, finding::BoundUnused};
use crate::{
    host::{
        netns, proc_net,
        settings::{self, Settings},
        sock_diag::{self, ALL_STATES, Protocol, Row, state},
    },
    model::Netns,
};

/// The sockets of one protocol in one namespace.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) settings: Settings,
    /// Listed by the kernel, and then those bound and unused.
    pub(crate) rows: Vec<Row>,
    /// How the latter were found.
    pub(crate) bound_unused: BoundUnused,
}

/// Looks into a namespace.
///
/// # Errors
/// The namespace is gone or may not be entered, or its sockets cannot be read.
pub(crate) fn take(netns: Netns, protocol: Protocol) -> io::Result<Snapshot> {
    let work = || Ok((settings::read(), list(protocol, ALL_STATES)?));
    let (settings, mut rows) = netns::inside_of(netns, work)?;
    let bound_unused = match protocol {
        // UDP has one table, and every bound socket is in it.
        Protocol::Udp => BoundUnused::SockDiag,
        Protocol::Tcp => {
            let (how, unlisted) = unlisted(&rows);
            let here = unlisted.into_iter().filter(|(inum, _)| *inum == netns.inum);
            rows.extend(here.map(|(_, row)| row));
            how
        }
    };
    Ok(Snapshot {
        settings,
        rows,
        bound_unused,
    })
}

/// The sockets that the kernel lists, by whichever of its two ways there is.
pub(crate) fn list(protocol: Protocol, states: u32) -> io::Result<Vec<Row>> {
    match sock_diag::list(protocol, states) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            proc_net::list(protocol, states)
        }
        other => other,
    }
}

/// How bound, unused TCP sockets are found, and those that the kernel does not
/// list, each with the namespace it is in. `listed`: what the kernel lists.
pub(crate) fn unlisted<'a>(
    listed: impl IntoIterator<Item = &'a Row>,
) -> (BoundUnused, Vec<(u32, Row)>) {
    match lists_bound_unused() {
        Ok(true) => (BoundUnused::SockDiag, Vec::new()),
        Ok(false) => {
            let listed: HashSet<u64> = listed.into_iter().map(|row| row.inode).collect();
            let (bound, why) = bound::unlisted(&listed);
            let how = why.map_or(BoundUnused::PidfdGetfd, BoundUnused::Incomplete);
            (how, bound)
        }
        Err(why) => (BoundUnused::Incomplete(why.to_owned()), Vec::new()),
    }
}

/// Whether this kernel lists bound, unused sockets. No version tells, and asking
/// an old one is no error, so one such socket is made, in a namespace of its own
/// where it is in nobody's way, and looked for.
fn lists_bound_unused() -> Result<bool, &'static str> {
    static LISTS: OnceLock<Option<bool>> = OnceLock::new();
    let trial = || std::thread::spawn(try_bound_unused).join().ok()?.ok();
    LISTS
        .get_or_init(trial)
        .ok_or("whether this kernel lists them could not be tried")
}

fn try_bound_unused() -> io::Result<bool> {
    // SAFETY: of all that can be unshared only a change of memory or of
    // descriptors could break safe code; this is neither.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(socket.as_fd(), &SocketAddr::from(([0, 0, 0, 0], 0)))?;
    match sock_diag::list(Protocol::Tcp, 1 << state::BOUND_INACTIVE) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        rows => rows.map(|rows| !rows.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_is_found() -> io::Result<()> {
        let mine = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(mine.as_fd(), &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let own = netns::of_process(std::process::id()).unwrap_or_default();
        // Without privileges a namespace may not be entered.
        let Ok(snapshot) = take(Netns::of_inode(own), Protocol::Tcp) else {
            return Ok(());
        };
        let is_bound = |row: &&Row| row.state == state::BOUND_INACTIVE;
        if snapshot.bound_unused == BoundUnused::SockDiag {
            assert!(snapshot.rows.iter().any(|row| is_bound(&row)));
        }
        assert!(snapshot.settings.port_range.is_some());
        Ok(())
    }
}

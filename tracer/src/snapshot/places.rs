//! What is in each network namespace, and which cannot be seen?

use std::{fs, io, path::Path};

use rustix::thread::CapabilitySet;

use crate::{
    exit::Failed,
    host::{hidepid, netns, pid_namespace, reduce},
};

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its inode number.
    pub(crate) netns: u32,
    /// Its name in /run/netns.
    pub(crate) name: Option<Vec<u8>>,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Look<T> {
    /// By inode number.
    pub(super) found: Vec<(Place, T)>,
    /// What was not, as sentences.
    pub(super) degradations: Vec<String>,
}

/// Does `work` inside every namespace there is a way to.
///
/// # Errors
/// No namespace can be entered, or the kernel does not tell its sockets.
pub(super) fn look<T: Send>(work: impl Fn() -> io::Result<T> + Sync) -> Result<Look<T>, Failed> {
    let named = netns::named();
    let mut found = Vec::new();
    let mut refused: Vec<io::Error> = Vec::new();
    for (netns, path) in netns::all() {
        let name = named.get(&netns).and_then(|path| path.file_name());
        let name = name.map(|name| name.as_encoded_bytes().to_vec());
        match inside(netns, &path, &work) {
            Ok(Some(Ok(seen))) => found.push((Place { netns, name }, seen)),
            Ok(Some(Err(error))) => return Err(unsupported(&error)),
            Ok(None) => {}
            Err(error) => refused.push(error),
        }
    }
    if found.is_empty() {
        return Err(nothing(refused.pop()));
    }
    Ok(Look {
        found,
        degradations: degradations(&refused),
    })
}

/// `None`: it is gone. The outer error is that of entering, the inner that of
/// `work`.
fn inside<T: Send>(
    netns: u32,
    path: &Path,
    work: impl Fn() -> io::Result<T> + Sync,
) -> io::Result<Option<io::Result<T>>> {
    match netns::inside(path, || Ok(work())) {
        Err(error) if netns::is_gone(&error) => {}
        result => return result.map(Some),
    }
    // The process that was the way to it ended; there may be another.
    let Some(path) = netns::find(netns) else {
        return Ok(None);
    };
    match netns::inside(&path, || Ok(work())) {
        Err(error) if netns::is_gone(&error) => Ok(None),
        result => result.map(Some),
    }
}

fn unsupported(error: &io::Error) -> Failed {
    Failed::Unsupported(format!("this kernel does not list its sockets: {error}"))
}

fn nothing(refused: Option<io::Error>) -> Failed {
    match refused {
        Some(error) if error.kind() == io::ErrorKind::PermissionDenied => Failed::NotPermitted(
            format!("not permitted: no network namespace can be entered: {error}"),
        ),
        Some(error) => Failed::Running(anyhow::anyhow!(
            "no network namespace can be entered: {error}"
        )),
        None => Failed::Running(anyhow::anyhow!(
            "no network namespace is seen: is /proc mounted?"
        )),
    }
}

fn degradations(refused: &[io::Error]) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(error) = refused.first() {
        let count = refused.len();
        sentences.push(format!(
            "left out: {count} network namespace{} that cannot be entered ({error}); needs CAP_SYS_ADMIN",
            if count == 1 { "" } else { "s" }
        ));
    }
    if pid_namespace::is_hosts() == Some(false) {
        sentences.push(pid_namespace::COST.to_owned());
    }
    if hidepid::hides() {
        sentences.push(hidepid::COST.to_owned());
    }
    let has_ptrace = reduce::effective().contains(CapabilitySet::SYS_PTRACE);
    sentences.extend(closed(netns::pids().filter(is_closed), has_ptrace));
    sentences
}

/// Whether a process's descriptors and namespaces may not be read.
fn is_closed(pid: &u32) -> bool {
    match fs::read_link(format!("/proc/{pid}/ns/net")) {
        // How older kernels refuse it.
        Ok(link) => link.as_os_str().is_empty(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// What it costs that these processes are closed. With the capability it is something
/// else that keeps tracer out, such as a security module.
fn closed(pids: impl Iterator<Item = u32>, has_ptrace: bool) -> Option<String> {
    const COST: &str = "who holds their sockets is not known, and network namespaces that only they are in are left out";
    let pids: Vec<u32> = pids.collect();
    let first = pids.first()?;
    let (count, others) = (pids.len(), pids.len() - 1);
    Some(match (has_ptrace, others) {
        (false, _) => {
            format!("processes of other users cannot be looked into: {COST}; needs CAP_SYS_PTRACE")
        }
        (true, 0) => format!(
            "process {first} cannot be looked into: {COST}; CAP_SYS_PTRACE is there, so something else protects it"
        ),
        (true, _) => format!(
            "{count} processes cannot be looked into (the first is {first}): {COST}; CAP_SYS_PTRACE is there, so something else protects them"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_tracer_out_is_told() {
        assert_eq!(closed([].into_iter(), true), None);
        let told = |pids: &[u32], has_ptrace| closed(pids.iter().copied(), has_ptrace);
        let says = |told: Option<String>, words: &str| told.is_some_and(|it| it.contains(words));
        assert!(says(told(&[1, 2], false), "needs CAP_SYS_PTRACE"));
        assert!(says(told(&[1], true), "process 1 cannot be looked into"));
        assert!(says(told(&[1, 2], true), "2 processes cannot be"));
    }

    #[test]
    fn this_namespace_is_looked_into() -> io::Result<()> {
        let own = netns::of_process(std::process::id());
        let look = look(|| Ok(()));
        assert!(look.is_ok_and(|look| {
            look.found
                .iter()
                .any(|(place, ())| Some(place.netns) == own)
        }));
        Ok(())
    }

    #[test]
    fn a_kernel_that_does_not_answer_ends_it() {
        let look = look(|| Err::<(), _>(io::Error::from_raw_os_error(libc::ENOENT)));
        assert!(matches!(look, Err(Failed::Unsupported(_))));
    }

    #[test]
    fn what_cannot_be_entered_is_said_once() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        let said = degradations(&[refused(), refused()]);
        assert!(said[0].starts_with("left out: 2 network namespaces that"));
        assert!(matches!(nothing(Some(refused())), Failed::NotPermitted(_)));
        assert!(matches!(nothing(None), Failed::Running(_)));
    }
}

//! Who opened a listener and who accepts from it, remembered where the kernel
//! runs on their behalf, so that a drop in softirq can name them.

use tracer_common::{Event, Task, flag};

use crate::{
    emit::increment,
    kernel::{Sock, asked_backlog, current_start, current_task},
    maps::{Asked, LISTENERS, Listener},
};

const NOBODY: Task = Task {
    tgid: 0,
    tid: 0,
    uid: 0,
    flags: 0,
    start_ns: 0,
    comm: [0; 16],
};

const NOT_ASKED: Asked = Asked {
    backlog: 0,
    somaxconn: 0,
    is_known: 0,
    pad: 0,
};

/// The running process made `sk` a listener.
#[inline(always)]
pub fn opened(sk: Sock) {
    let listener = Listener {
        inode: sk.socket().inode(),
        opener: current_task(),
        acceptor: NOBODY,
        accepts: 0,
        failures: 0,
        errno: 0,
        asked: asked_backlog().map_or(NOT_ASKED, |backlog| Asked {
            backlog,
            somaxconn: sk.net().somaxconn(),
            is_known: 1,
            pad: 0,
        }),
    };
    // A full map evicts its oldest entry; /proc then still names the holders.
    let _ = LISTENERS.insert(sk.0, listener, 0);
}

/// `accept()` returned a connection of the listener `sk` to the running process, whose
/// name is written only when that is news.
#[inline(always)]
pub fn accepted(sk: Sock) {
    let tgid = (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let inode = sk.socket().inode();
    let mut news = unknown(inode);
    news.accepts = 1;
    if let Some(known) = LISTENERS.get_ptr_mut(sk.0) {
        // SAFETY: a map value stays readable while this program runs; counters are only
        // ever written atomically.
        let known = unsafe {
            increment(&raw mut (*known).accepts);
            &*known
        };
        if known.acceptor.tgid == tgid
            && known.inode == inode
            && known.acceptor.start_ns == current_start()
        {
            return;
        }
        if known.inode == inode {
            // What another CPU counts before the entry is replaced is missing: the rate
            // of accepts is near, not exact, where acceptors take turns.
            news = *known;
        }
    }
    news.acceptor = current_task();
    // Replaced as a whole: a reader on another CPU never sees half of it.
    let _ = LISTENERS.insert(sk.0, news, 0);
}

/// `accept()` of the listener `sk` failed.
#[inline(always)]
pub fn accept_failed(sk: Sock, errno: u64) {
    let inode = sk.socket().inode();
    if let Some(known) = LISTENERS.get_ptr_mut(sk.0) {
        // SAFETY: as above; the errno is one aligned word.
        let is_it = unsafe { (*known).inode == inode };
        if is_it {
            // SAFETY: as above.
            unsafe {
                increment(&raw mut (*known).failures);
                (&raw mut (*known).errno).write(errno);
            }
            return;
        }
    }
    let mut news = unknown(inode);
    news.failures = 1;
    news.errno = errno;
    let _ = LISTENERS.insert(sk.0, news, 0);
}

/// A listener that is older than tracer.
#[inline(always)]
fn unknown(inode: u64) -> Listener {
    Listener {
        inode,
        opener: NOBODY,
        acceptor: NOBODY,
        accepts: 0,
        failures: 0,
        errno: 0,
        asked: NOT_ASKED,
    }
}

/// Writes opener and last acceptor of the listener `sk` into `event`.
#[inline(always)]
pub fn describe(sk: Sock, event: &mut Event) {
    // SAFETY: entries are replaced, never written in place, but for a counter; a
    // value stays readable while this program runs.
    let Some(known) = (unsafe { LISTENERS.get(sk.0) }) else {
        return;
    };
    if known.inode == event.inode {
        event.listener = known.opener;
        event.acceptor = known.acceptor;
        event.accepts = known.accepts;
        event.accept_failures = known.failures;
        event.accept_errno = known.errno as u16;
        if known.asked.is_known == 1 {
            event.asked = known.asked.backlog;
            event.somaxconn = known.asked.somaxconn;
            event.flags |= flag::ASKED;
        }
    }
}

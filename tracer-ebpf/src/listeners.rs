//! Who opened a listener and who accepts from it, remembered where the kernel
//! runs on their behalf, so that a drop in softirq can name them.

use tracer_common::{Event, Task};

use crate::{
    kernel::{Sock, current_start, current_task},
    maps::{LISTENERS, Listener},
};

const NOBODY: Task = Task {
    tgid: 0,
    tid: 0,
    uid: 0,
    flags: 0,
    start_ns: 0,
    comm: [0; 16],
};

/// The running process made `sk` a listener.
#[inline(always)]
pub fn opened(sk: Sock) {
    let listener = Listener {
        inode: sk.socket().inode(),
        opener: current_task(),
        acceptor: NOBODY,
    };
    // A full map evicts its oldest entry; /proc then still names the holders.
    let _ = LISTENERS.insert(sk.0, listener, 0);
}

/// The running process accepts from `sk`. Writes only when that is news.
#[inline(always)]
pub fn accepting(sk: Sock) {
    let tgid = (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    let known = LISTENERS.get_ptr(sk.0);
    let mut opener = NOBODY;
    let mut inode = 0;
    if let Some(known) = known {
        // SAFETY: a map value stays readable while this program runs.
        let known = unsafe { &*known };
        if known.acceptor.tgid == tgid && known.acceptor.start_ns == current_start() {
            return;
        }
        opener = known.opener;
        inode = known.inode;
    }
    let now = sk.socket().inode();
    if inode != now {
        opener = NOBODY;
    }
    // Replaced as a whole: a reader on another CPU never sees half of it.
    let _ = LISTENERS.insert(
        sk.0,
        Listener {
            inode: now,
            opener,
            acceptor: current_task(),
        },
        0,
    );
}

/// Writes opener and last acceptor of the listener `sk` into `event`.
#[inline(always)]
pub fn describe(sk: Sock, event: &mut Event) {
    // SAFETY: entries are replaced, never written in place; a value stays
    // readable while this program runs.
    let Some(known) = (unsafe { LISTENERS.get(sk.0) }) else {
        return;
    };
    if known.inode == event.inode {
        event.listener = known.opener;
        event.acceptor = known.acceptor;
    }
}

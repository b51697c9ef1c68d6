//! The only file that counts failures and writes the ring buffer.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
};
use tracer_common::{
    Cause, CountKey, Event, Hook, Kind, Tally, UNDECIDED, WAKE_INTERVAL_NS, flag, fold, slot,
};

use crate::{
    allowance, filter,
    kernel::{Address, Sock, current_start, current_task},
    listeners,
    maps::{COUNTS, EVENTS, HEALTH, UNATTRIBUTED, UNPLACED, UNWANTED, WOKEN},
    verification,
};

/// A failure that has been decided on.
#[derive(Clone, Copy)]
pub struct Failure {
    pub kind: Kind,
    pub cause: Cause,
    pub hook: Hook,
    pub sk: Sock,
}

/// The two ends, as far as known.
#[derive(Clone, Copy)]
pub struct Ends {
    pub local: Address,
    pub remote: Option<Address>,
}

/// The queues of a listener when the decision was taken.
#[derive(Clone, Copy, Default)]
pub struct Queues {
    pub accept_len: u32,
    pub accept_max: u32,
    pub request_len: u32,
    pub max_syn_backlog: u32,
    pub flags: u8,
}

/// A call that failed in the process that is running now.
#[inline(always)]
pub fn call_failed(failure: Failure, errno: u16, ends: Ends) {
    let mut key = key(failure);
    key.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    key.party = current_start();
    report(failure, &mut key, ends, Call { errno });
}

/// A packet that a listener dropped, in the context of whoever happens to run.
#[inline(always)]
pub fn packet_dropped(failure: Failure, ends: Ends, queues: Queues) {
    let mut key = key(failure);
    key.party = failure.sk.socket().inode();
    report(failure, &mut key, ends, Drop { queues, failure });
}

/// What only calls, or only drops, have to say. A trait and not a closure, so that it can
/// be inlined always: a function of its own would need a stack of its own.
trait Describe {
    fn describe(self, event: &mut Event);
}

struct Call {
    errno: u16,
}

impl Describe for Call {
    #[inline(always)]
    fn describe(self, event: &mut Event) {
        event.errno = self.errno;
        event.caller = current_task();
    }
}

struct Drop {
    queues: Queues,
    failure: Failure,
}

impl Describe for Drop {
    #[inline(always)]
    fn describe(self, event: &mut Event) {
        event.accept_len = self.queues.accept_len;
        event.accept_max = self.queues.accept_max;
        event.request_len = self.queues.request_len;
        event.request_max = self.queues.accept_max;
        event.max_syn_backlog = self.queues.max_syn_backlog;
        event.flags |= self.queues.flags;
        listeners::describe(self.failure.sk, event);
    }
}

#[inline(always)]
fn key(failure: Failure) -> CountKey {
    let net = failure.sk.net();
    CountKey::new(net.inum(), net.cookie(), failure.kind, failure.cause)
}

/// A SYN of which user space has to find out whether it was dropped.
#[inline(always)]
pub fn undecided(sk: Sock) {
    let net = sk.net();
    if verification::takes(net.inum()) {
        return;
    }
    let mut key = CountKey::new(net.inum(), net.cookie(), Kind::SynDropped, Cause::Other);
    key.cause = UNDECIDED;
    key.party = sk.socket().inode();
    if let Some(tally) = count(&mut key) {
        // SAFETY: a valid map value.
        increment(unsafe { &raw mut (*tally).undescribed });
        add(slot::UNDESCRIBED);
    }
}

/// A SYN about which nothing can be said.
#[inline(always)]
pub fn unjudged() {
    add(slot::UNJUDGED);
}

#[inline(always)]
fn report(failure: Failure, key: &mut CountKey, ends: Ends, own: impl Describe) {
    let is_verification = verification::takes(key.netns);
    let tally = if is_verification {
        UNWANTED.get_ptr_mut(0)
    } else {
        count(key)
    };
    let Some(tally) = tally else {
        return;
    };
    if !failure.kind.is_drop() {
        note_address(tally, &ends);
    }
    if !is_verification && !filter::wants(failure.kind, failure.cause, key.netns) {
        // SAFETY: a valid map value.
        increment(unsafe { &raw mut (*tally).filtered });
        return;
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let may = is_verification || allowance::take(failure.kind, tally, now);
    if !may || !describe(failure, key, ends, now, own) {
        // SAFETY: a valid map value.
        increment(unsafe { &raw mut (*tally).undescribed });
        add(slot::UNDESCRIBED);
    }
}

/// Notes whether all failures of a caller are about one address.
#[inline(always)]
fn note_address(tally: *mut Tally, ends: &Ends) {
    let about = ends.remote.as_ref().unwrap_or(&ends.local);
    let address = fold(&about.ip, about.port);
    // SAFETY: a valid map value of this CPU's.
    let tally = unsafe { &mut *tally };
    if tally.address == 0 {
        tally.address = address;
    } else if tally.address != address {
        tally.has_several = 1;
    }
}

/// Writes the failure into the ring; false: there is no room.
#[inline(always)]
fn describe(failure: Failure, key: &CountKey, ends: Ends, now: u64, own: impl Describe) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        return false;
    };
    // SAFETY: the reservation is Event-sized and 8-aligned; all of it is
    // initialised here, and zero is a valid Event.
    let event = unsafe {
        entry.as_mut_ptr().write_bytes(0, 1);
        entry.assume_init_mut()
    };
    event.time_ns = now;
    event.netns = key.netns;
    event.netns_cookie = key.netns_cookie;
    event.protocol = failure.sk.protocol();
    event.kind = failure.kind as u8;
    event.cause = failure.cause as u8;
    event.hook = failure.hook as u8;
    (event.own_low, event.own_high) = failure.sk.own_port_range();
    event.family = ends.local.family as u8;
    event.local = ends.local.ip;
    event.local_port = ends.local.port;
    if let Some(remote) = ends.remote {
        event.family = remote.family as u8;
        event.remote = remote.ip;
        event.remote_port = remote.port;
    }
    let socket = failure.sk.socket();
    if socket.exists() {
        event.inode = socket.inode();
        if !socket.has_file() {
            event.flags |= flag::KERNEL_SOCKET;
        }
    }
    own.describe(event);
    entry.submit(wake_up(now));
    true
}

/// Whether to wake the reader for this record. A wake-up is an interrupt that
/// this CPU sends itself, an order of magnitude dearer than all else here (and
/// in a virtual machine an exit from it). So a CPU wakes at most once in
/// [`WAKE_INTERVAL_NS`]; the reader, once woken, looks again after twice that.
#[inline(always)]
fn wake_up(now: u64) -> u64 {
    let Some(last) = WOKEN.get_ptr_mut(0) else {
        return BPF_RB_FORCE_WAKEUP.into();
    };
    // SAFETY: a valid map value. Whoever interrupts between read and write
    // wakes once more than needed.
    unsafe {
        if now.wrapping_sub(*last) < WAKE_INTERVAL_NS {
            return BPF_RB_NO_WAKEUP.into();
        }
        *last = now;
    }
    BPF_RB_FORCE_WAKEUP.into()
}

/// Counts a failure, and returns its counters on this CPU: of its process or listener,
/// else of what has no room of its own.
#[inline(always)]
fn count(key: &mut CountKey) -> Option<*mut Tally> {
    let own: &CountKey = key;
    if COUNTS.get_ptr_mut(own).is_none() {
        // Another CPU may be first; then this fails and the entry is there.
        if COUNTS.insert(own, NOTHING, BPF_NOEXIST as u64).is_ok() {
            add(slot::KEYS);
        }
    }
    let tally = match COUNTS.get_ptr_mut(own) {
        Some(tally) => tally,
        None => unattributed(key)?,
    };
    // SAFETY: a valid map value.
    increment(unsafe { &raw mut (*tally).counted });
    Some(tally)
}

static NOTHING: &Tally = &Tally {
    counted: 0,
    undescribed: 0,
    filtered: 0,
    window: 0,
    used: 0,
    address: 0,
    has_several: 0,
};

/// The counters of failures that are those of nobody, because [`COUNTS`] is full.
#[inline(always)]
fn unattributed(key: &mut CountKey) -> Option<*mut Tally> {
    key.party = 0;
    key.tgid = 0;
    let all: &CountKey = key;
    if UNATTRIBUTED.get_ptr_mut(all).is_none() {
        let _ = UNATTRIBUTED.insert(all, NOTHING, BPF_NOEXIST as u64);
    }
    match UNATTRIBUTED.get_ptr_mut(all) {
        Some(tally) => Some(tally),
        None => UNPLACED.get_ptr_mut(0),
    }
}

#[inline(always)]
fn add(index: u32) {
    if let Some(value) = HEALTH.get_ptr_mut(index) {
        increment(value);
    }
}

/// Atomic although the value belongs to one CPU: a program in process context
/// can be interrupted by a softirq, or preempted by another task, that counts
/// on the same CPU.
#[inline(always)]
pub fn increment(value: *mut u64) {
    // SAFETY: a valid, aligned map value. With the result unused this is the
    // BPF_XADD instruction, which every kernel has.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, 1) };
}

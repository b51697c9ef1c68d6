//! The only file that counts failures and writes the ring buffer.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ktime_get_boot_ns,
};
use aya_log_ebpf::debug;
use tracer_common::{Cause, CountKey, Event, Hook, Kind, WAKE_INTERVAL_NS, flag, slot};

use crate::{
    allowance, filter,
    kernel::{Address, Sock, current_task},
    listeners,
    maps::{COUNTS, EVENTS, HEALTH, WOKEN},
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
pub fn call_failed(ctx: &impl EbpfContext, failure: Failure, errno: u16, ends: Ends) {
    report(ctx, failure, ends, |event| {
        event.errno = errno;
        event.caller = current_task();
    });
}

/// A packet that a listener dropped, in the context of whoever happens to run.
#[inline(always)]
pub fn packet_dropped(ctx: &impl EbpfContext, failure: Failure, ends: Ends, queues: Queues) {
    report(ctx, failure, ends, |event| {
        event.accept_len = queues.accept_len;
        event.accept_max = queues.accept_max;
        event.request_len = queues.request_len;
        event.request_max = queues.accept_max;
        event.max_syn_backlog = queues.max_syn_backlog;
        event.flags |= queues.flags;
        listeners::describe(failure.sk, event);
    });
}

/// A SYN about which nothing can be said.
#[inline(always)]
pub fn unjudged() {
    add(slot::UNJUDGED);
}

#[inline(always)]
fn report(ctx: &impl EbpfContext, failure: Failure, ends: Ends, fill: impl FnOnce(&mut Event)) {
    let net = failure.sk.net();
    let netns = net.inum();
    let is_verification = verification::takes(netns);
    if !is_verification {
        count(ctx, CountKey::new(netns, failure.kind, failure.cause));
        if !filter::wants(failure.kind, failure.cause, netns) {
            add(slot::FILTERED);
            return;
        }
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // What is not described for want of an allowance or of room in the ring is known
    // by what is missing: counted, less described and filtered.
    if !is_verification && !allowance::take(failure.kind, now) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        return;
    };
    // SAFETY: the reservation is Event-sized and 8-aligned; all of it is
    // initialised here, and zero is a valid Event.
    let event = unsafe {
        entry.as_mut_ptr().write_bytes(0, 1);
        entry.assume_init_mut()
    };
    event.time_ns = now;
    event.netns = netns;
    event.netns_cookie = net.cookie();
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
    fill(event);
    entry.submit(wake_up(now));
    if !is_verification {
        add(slot::DESCRIBED);
    }
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

#[inline(always)]
fn count(ctx: &impl EbpfContext, key: CountKey) {
    add(slot::COUNTED);
    if COUNTS.get_ptr_mut(key).is_none() {
        // Another CPU may be first; then this fails and the entry is there.
        let _ = COUNTS.insert(key, 0, BPF_NOEXIST as u64);
    }
    match COUNTS.get_ptr_mut(key) {
        Some(value) => increment(value),
        None => {
            add(slot::UNPLACED);
            debug!(
                ctx,
                "COUNTS is full: netns {} counted in the total only", key.netns
            );
        }
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

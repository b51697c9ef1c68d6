//! Who closes connections? A `TIME_WAIT` socket belongs to no process, but it
//! was in `FIN_WAIT1` before, and that state is entered where the process calls
//! `close()` or `shutdown()`, or ends (`__tcp_close`, `tcp_shutdown`,
//! net/ipv4/tcp.c).

use core::ptr::write_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{CHUNK, Chunk, Closed, Connection, Cursor};

use super::{IPPROTO_MPTCP, IPPROTO_TCP, TCP_FIN_WAIT1};
use crate::{
    kernel::{Sock, current_task},
    maps::{CLOSED, CURSOR, OLDEST},
};

/// match-proto: inet_sock_set_state(const struct sock *, const int, const int)
#[raw_tracepoint]
pub fn raw_tp_closer(ctx: RawTracePointContext) -> i32 {
    let sk = Sock(ctx.arg(0));
    // close() after shutdown() sets the state once more (tcp_close_state).
    let begins = ctx.arg::<i32>(1) != TCP_FIN_WAIT1 && ctx.arg::<i32>(2) == TCP_FIN_WAIT1;
    if begins {
        // An MPTCP socket shows the addresses of its first subflow, which a worker
        // of the kernel closes later, on behalf of nobody.
        let protocol = sk.protocol();
        if protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP {
            remember(sk);
        }
    }
    0
}

#[inline(always)]
fn remember(sk: Sock) {
    let Some(cursor) = CURSOR.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a valid map value of this CPU's. Programs at tracepoints are not
    // preempted, and no interrupt enters FIN_WAIT1.
    let cursor = unsafe { &mut *cursor };
    let Some((chunk, slot)) = next_slot(cursor) else {
        cursor.lost += 1;
        return;
    };
    let (local, remote, net) = sk.connection();
    let connection = Connection {
        local: local.ip,
        remote: remote.ip,
        netns: net.inum(),
        local_port: local.port,
        remote_port: remote.port,
    };
    let by = current_task();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: a valid map value, which only this CPU writes. The order matters to
    // user space (see `Closed`): end, begin, the rest, end.
    unsafe {
        write_volatile(&raw mut (*slot).end, 0);
        write_volatile(&raw mut (*slot).begin, now);
        write_volatile(&raw mut (*slot).connection, connection);
        write_volatile(&raw mut (*slot).by, by);
        write_volatile(&raw mut (*slot).end, now);
        (*chunk).newest = now;
    }
}

/// Where to write: in this CPU's chunk, or at the start of the oldest one if it
/// is full, or if it became the oldest meanwhile and another CPU took it.
#[inline(always)]
fn next_slot(cursor: &mut Cursor) -> Option<(*mut Chunk, *mut Closed)> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if cursor.left != 0 {
        let chunk = CLOSED.get_ptr_mut(cursor.chunk)?;
        // SAFETY: a valid map value.
        if unsafe { (*chunk).cpu } == cpu {
            return Some((chunk, take(cursor, chunk)));
        }
    }
    let oldest = OLDEST.pop().ok()??;
    let _ = OLDEST.push(oldest, 0);
    let chunk = CLOSED.get_ptr_mut(oldest)?;
    // SAFETY: a valid map value.
    unsafe {
        (*chunk).cpu = cpu;
        cursor.forgotten_until = cursor.forgotten_until.max((*chunk).newest);
    }
    cursor.chunk = oldest;
    cursor.left = CHUNK as u32;
    Some((chunk, take(cursor, chunk)))
}

#[inline(always)]
fn take(cursor: &mut Cursor, chunk: *mut Chunk) -> *mut Closed {
    // The mask proves to the verifier what is so anyway.
    let index = (CHUNK as u32).wrapping_sub(cursor.left) as usize & (CHUNK - 1);
    cursor.left -= 1;
    // SAFETY: the index is less than CHUNK.
    unsafe { (&raw mut (*chunk).closed).cast::<Closed>().add(index) }
}

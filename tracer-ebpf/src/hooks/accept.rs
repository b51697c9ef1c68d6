//! Who accepts from which listener, and how often? `inet_csk_accept` returns the
//! connection, or null; its first argument is the listener on every kernel, the others
//! changed in 6.10. A process without a free descriptor fails before that function: the
//! return of the system call tells (`syscall.rs`).

use aya_ebpf::{
    macros::{fexit, kprobe},
    programs::{FExitContext, ProbeContext},
};

use crate::{kernel::Sock, listeners};

/// match-proto: struct sock *inet_csk_accept(struct sock *, struct proto_accept_arg *)
#[fexit]
pub fn fexit_inet_csk_accept_2(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(2) != 0 {
        listeners::accepted(Sock(ctx.arg(0)));
    }
    0
}

/// match-proto: struct sock *inet_csk_accept(struct sock *, int, int *, bool)
#[fexit]
pub fn fexit_inet_csk_accept_4(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(4) != 0 {
        listeners::accepted(Sock(ctx.arg(0)));
    }
    0
}

/// At the entry, because calls that wait would take all instances of a kretprobe: with a
/// connection in the queue it will return one.
///
/// match-proto: struct sock *inet_csk_accept(struct sock *, ...)
#[kprobe]
pub fn kprobe_inet_csk_accept(ctx: ProbeContext) -> u32 {
    let sk = Sock(ctx.arg(0).unwrap_or(0));
    if sk.accept_queue().0 > 0 {
        listeners::accepted(sk);
    }
    0
}

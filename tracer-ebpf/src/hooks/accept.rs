//! Who accepts from which listener? Its first argument is the listener on
//! every kernel; the others changed in 6.10.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{kernel::Sock, listeners};

/// match-proto: struct sock *inet_csk_accept(struct sock *, ...)
#[fentry]
pub fn fentry_inet_csk_accept(ctx: FEntryContext) -> i32 {
    listeners::accepting(Sock(ctx.arg(0)));
    0
}

/// match-proto: struct sock *inet_csk_accept(struct sock *, ...)
#[kprobe]
pub fn kprobe_inet_csk_accept(ctx: ProbeContext) -> u32 {
    listeners::accepting(Sock(ctx.arg(0).unwrap_or(0)));
    0
}

//! Why did `listen()` fail, and who opened which listener?
//! `inet_csk_listen_start` answers both: every path to LISTEN runs through it
//! (it is exported from another file than its callers, so it is not inlined).

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{Cause, Hook, Kind};

use super::{EADDRINUSE, calls::probe_pair};
use crate::{
    emit::{Ends, Failure, call_failed},
    kernel::Sock,
    listeners,
};

/// `listen()` on `sk` returned EADDRINUSE.
#[inline(always)]
pub fn failed(hook: Hook, sk: Sock) {
    // listen() on a socket without a port searches for one.
    let cause = if sk.port() == 0 {
        Cause::PortsExhausted
    } else {
        Cause::PortInUse
    };
    let failure = Failure {
        kind: Kind::ListenFailed,
        cause,
        hook,
        sk,
    };
    call_failed(
        failure,
        EADDRINUSE as u16,
        Ends {
            local: sk.local(),
            remote: None,
        },
    );
}

#[inline(always)]
fn returned(hook: Hook, sk: Sock, ret: i32) {
    if ret == 0 {
        listeners::opened(sk);
    } else if ret == -EADDRINUSE {
        failed(hook, sk);
    }
}

/// match-proto: int inet_csk_listen_start(struct sock *)
#[fexit]
pub fn fexit_listen_start_1(ctx: FExitContext) -> i32 {
    returned(Hook::FexitListenStart, Sock(ctx.arg(0)), ctx.arg(1));
    0
}

/// match-proto: int inet_csk_listen_start(struct sock *, int)
#[fexit]
pub fn fexit_listen_start_2(ctx: FExitContext) -> i32 {
    returned(Hook::FexitListenStart, Sock(ctx.arg(0)), ctx.arg(2));
    0
}

probe_pair!(
    kprobe_listen_start,
    kretprobe_listen_start,
    Hook::KretListenStart,
    [0, 0],
    |_ret| true,
    |ctx, call| returned(Hook::KretListenStart, Sock(call.arg0), ctx.ret())
);

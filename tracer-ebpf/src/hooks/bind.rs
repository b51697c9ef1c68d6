//! Why did `bind()` fail? The return of `__inet_bind` / `__inet6_bind` tells:
//! EADDRNOTAVAIL is an address that is not local, EADDRINUSE a port search that
//! failed, for one port or (port 0) for all of them.

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{Cause, Hook, Kind};

use super::{
    EADDRINUSE, EADDRNOTAVAIL, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, calls::probe_pair,
};
use crate::{
    emit::{Ends, Failure, call_failed},
    kernel::{Address, Sock, kernel_sockaddr},
};

/// Whether this return value of a bind is one of ours.
#[inline(always)]
pub fn is_ours(ret: i32) -> bool {
    ret == -EADDRINUSE || ret == -EADDRNOTAVAIL
}

/// `bind()` of `sk` to `asked` returned `ret`.
#[inline(always)]
pub fn failed(hook: Hook, sk: Sock, asked: Address, ret: i32) {
    let protocol = sk.protocol();
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_MPTCP {
        return;
    }
    let cause = if ret == -EADDRNOTAVAIL {
        Cause::AddressNotLocal
    } else if asked.port == 0 {
        Cause::PortsExhausted
    } else {
        Cause::PortInUse
    };
    let failure = Failure {
        kind: Kind::BindFailed,
        cause,
        hook,
        sk,
    };
    call_failed(
        failure,
        -ret as u16,
        Ends {
            local: asked,
            remote: None,
        },
    );
}

#[inline(always)]
fn failed_raw(hook: Hook, sk: u64, sockaddr: u64, ret: i32) {
    failed(hook, Sock(sk), kernel_sockaddr(sockaddr), ret);
}

/// match-proto: int __inet_bind(struct sock *, struct sockaddr *, int, u32)
#[fexit]
pub fn fexit_inet_bind(ctx: FExitContext) -> i32 {
    let ret = ctx.arg::<i32>(4);
    if is_ours(ret) {
        failed_raw(Hook::FexitInetBind, ctx.arg(0), ctx.arg(1), ret);
    }
    0
}

/// match-proto: int __inet6_bind(struct sock *, struct sockaddr *, int, u32)
#[fexit]
pub fn fexit_inet6_bind(ctx: FExitContext) -> i32 {
    let ret = ctx.arg::<i32>(4);
    if is_ours(ret) {
        failed_raw(Hook::FexitInet6Bind, ctx.arg(0), ctx.arg(1), ret);
    }
    0
}

probe_pair!(
    kprobe_inet_bind,
    kretprobe_inet_bind,
    Hook::KretInetBind,
    [0, 1],
    |ret| is_ours(ret),
    |ctx, call| failed_raw(Hook::KretInetBind, call.arg0, call.arg1, ctx.ret())
);
probe_pair!(
    kprobe_inet6_bind,
    kretprobe_inet6_bind,
    Hook::KretInet6Bind,
    [0, 1],
    |ret| is_ours(ret),
    |ctx, call| failed_raw(Hook::KretInet6Bind, call.arg0, call.arg1, ctx.ret())
);

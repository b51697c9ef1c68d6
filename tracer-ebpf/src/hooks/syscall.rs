//! The portable tier's view of syscalls, where no other tracepoint tells:
//! what `bind()`, `listen()`, `connect()` and `accept()` returned.
//!
//! The arguments of a syscall that failed are read from its saved registers at
//! the return, so that a call that succeeds costs one comparison. Kernels
//! without `bpf_task_pt_regs` (5.10) keep them at the entry instead.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use aya_log_ebpf::debug;
use tracer_common::{Family, Hook};

use super::{
    EADDRINUSE, EADDRNOTAVAIL, EAGAIN, ECONNABORTED, EINTR, IPPROTO_TCP, TCP_LISTEN, bind,
    calls::{keep, kept, take},
    connect::{call_is_unexplained, no_source_address, refused_by_policy},
    listen,
};
use crate::{
    emit::Ends,
    kernel::{Sock, socket_of_fd, syscall_args, user_sockaddr},
    listeners,
};

/// `args` in every `syscalls:sys_enter_*` record; eight bytes each.
const ENTER_ARGS: usize = 16;
/// `ret` in every `syscalls:sys_exit_*` record.
const EXIT_RET: usize = 16;

#[inline(always)]
fn ret(ctx: &TracePointContext) -> i32 {
    // SAFETY: within the record of a syscall exit.
    unsafe { ctx.read_at::<i64>(EXIT_RET) }.unwrap_or(0) as i32
}

#[inline(always)]
fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: within the record of a syscall entry.
    unsafe { ctx.read_at(ENTER_ARGS + n * 8) }.unwrap_or(0)
}

/// Socket and second argument of the syscall that returns now.
#[inline(always)]
fn call(hook: Hook) -> Option<(Sock, u64)> {
    let (fd, second) = match syscall_args() {
        Some(args) => args,
        None => {
            let call = take(hook);
            // The second argument is never 0 where something was kept.
            if call.arg1 == 0 {
                return None;
            }
            (call.arg0, call.arg1)
        }
    };
    Some((socket_of_fd(fd as u32)?.sock(), second))
}

#[tracepoint]
pub fn tp_exit_connect(ctx: TracePointContext) -> u32 {
    if ret(&ctx) == -EADDRNOTAVAIL {
        connect_failed();
    }
    0
}

#[inline(always)]
fn connect_failed() {
    let hook = Hook::TpSysExitConnect;
    let Some((sk, sockaddr)) = call(hook) else {
        return;
    };
    if !call_is_unexplained(sk) {
        return;
    }
    let remote = user_sockaddr(sockaddr);
    let ends = Ends {
        local: sk.local(),
        remote: Some(remote),
    };
    // IPv4 has no EADDRNOTAVAIL but the port search's, which is reported. IPv6
    // has "no source address", which looks the same here as a policy's.
    if remote.family == Family::V6 {
        no_source_address(hook, sk, ends);
        // The call is over: nothing outer is left to stay silent.
        call_is_unexplained(sk);
    } else {
        refused_by_policy(hook, sk, ends);
    }
}

#[tracepoint]
pub fn tp_exit_bind(ctx: TracePointContext) -> u32 {
    let ret = ret(&ctx);
    if bind::is_ours(ret)
        && let Some((sk, sockaddr)) = call(Hook::TpSysExitBind)
    {
        bind::failed(Hook::TpSysExitBind, sk, user_sockaddr(sockaddr), ret);
    }
    0
}

#[tracepoint]
pub fn tp_exit_listen(ctx: TracePointContext) -> u32 {
    if ret(&ctx) == -EADDRINUSE
        && let Some((sk, _)) = call(Hook::TpSysExitListen)
    {
        listen::failed(Hook::TpSysExitListen, sk);
    }
    0
}

#[tracepoint]
pub fn tp_enter_connect(ctx: TracePointContext) -> u32 {
    keep(Hook::TpSysExitConnect, argument(&ctx, 0), argument(&ctx, 1));
    0
}

#[tracepoint]
pub fn tp_enter_bind(ctx: TracePointContext) -> u32 {
    keep(Hook::TpSysExitBind, argument(&ctx, 0), argument(&ctx, 1));
    0
}

#[tracepoint]
pub fn tp_enter_listen(ctx: TracePointContext) -> u32 {
    keep(Hook::TpSysExitListen, argument(&ctx, 0), 1);
    0
}

#[tracepoint]
pub fn tp_enter_accept(ctx: TracePointContext) -> u32 {
    keep(Hook::TpSysExitAccept, argument(&ctx, 0), 1);
    0
}

#[tracepoint]
pub fn tp_enter_accept4(ctx: TracePointContext) -> u32 {
    keep(Hook::TpSysExitAccept, argument(&ctx, 0), 1);
    0
}

#[tracepoint]
pub fn tp_exit_accept(ctx: TracePointContext) -> u32 {
    accept_returned(&ctx);
    0
}

#[tracepoint]
pub fn tp_exit_accept4(ctx: TracePointContext) -> u32 {
    accept_returned(&ctx);
    0
}

#[inline(always)]
fn accept_returned(ctx: &TracePointContext) {
    if ret(ctx) >= 0
        && let Some(sk) = listener()
    {
        listeners::accepted(sk);
    }
}

/// Programs of their own: where another hook sees what is accepted, this is still the
/// only one that sees what is not.
#[tracepoint]
pub fn tp_exit_accept_failed(ctx: TracePointContext) -> u32 {
    accept_failed(&ctx);
    0
}

#[tracepoint]
pub fn tp_exit_accept4_failed(ctx: TracePointContext) -> u32 {
    accept_failed(&ctx);
    0
}

#[inline(always)]
fn accept_failed(ctx: &TracePointContext) {
    let ret = ret(ctx);
    // An empty queue and a signal (ERESTARTSYS and the like are above 511) are no
    // failures, and a connection that is gone already is one of the client.
    if ret >= 0 || ret == -EAGAIN || ret == -EINTR || ret == -ECONNABORTED || ret < -511 {
        return;
    }
    if let Some(sk) = listener() {
        debug!(ctx, "accept() failed with errno {}", -ret);
        listeners::accept_failed(sk, -ret as u64);
    }
}

/// The TCP listener that the `accept()` that returns now was called with.
#[inline(always)]
fn listener() -> Option<Sock> {
    let fd = match syscall_args() {
        Some((fd, _)) => fd,
        None => {
            let call = kept(Hook::TpSysExitAccept);
            if call.arg1 == 0 {
                return None;
            }
            call.arg0
        }
    };
    let sk = socket_of_fd(fd as u32)?.sock();
    (sk.protocol() == IPPROTO_TCP && sk.state() == TCP_LISTEN as u8).then_some(sk)
}

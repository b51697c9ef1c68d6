//! Why did `connect()` fail with EADDRNOTAVAIL?
//!
//! `inet_hash_connect` / `inet6_hash_connect` return what the port search
//! (`__inet_hash_connect`) returned, with the socket still intact and with the
//! same two arguments on every kernel from 5.10 to 7.2. `tcp_v4_connect` has no
//! EADDRNOTAVAIL of its own; `tcp_v6_connect` has one: no source address.
//! `__sys_connect_file` is the last function that `connect()` and io_uring
//! share, so an EADDRNOTAVAIL there that no inner hook reported was a policy's.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{Cause, Hook, Kind};

use super::{EADDRNOTAVAIL, IPPROTO_MPTCP, IPPROTO_TCP, calls::probe_pair};
use crate::{
    emit::{Ends, Failure, call_failed},
    kernel::{File, Sock, kernel_sockaddr},
    maps::REPORTED,
};

/// The port search failed.
#[inline(always)]
fn search_failed(hook: Hook, sk: Sock) {
    if sk.protocol() != IPPROTO_TCP {
        return;
    }
    let (local, remote) = sk.ends();
    let ends = Ends {
        local,
        remote: Some(remote),
    };
    search_failed_with(hook, sk, sk.port(), ends);
}

/// As above, with the port that the socket had before the search.
#[inline(always)]
pub fn search_failed_with(hook: Hook, sk: Sock, port: u16, ends: Ends) {
    let cause = if port == 0 {
        Cause::PortsExhausted
    } else {
        Cause::AddressTaken
    };
    let failure = Failure {
        kind: Kind::ConnectFailed,
        cause,
        hook,
        sk,
    };
    call_failed(failure, EADDRNOTAVAIL as u16, ends);
    remember_reported(sk);
}

#[inline(always)]
fn remember_reported(sk: Sock) {
    // A full map forgets the oldest: the outer hook might then report twice,
    // which `described` would show.
    let _ = REPORTED.insert(bpf_get_current_pid_tgid(), sk.socket().inode(), 0);
}

/// Whether an inner hook has reported this socket's failure in this call.
#[inline(always)]
fn reported(sk: Sock) -> bool {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: values are replaced, never written in place.
    unsafe { REPORTED.get(id) }.is_some_and(|inode| *inode == sk.socket().inode())
}

/// `tcp_v6_connect` failed with EADDRNOTAVAIL.
#[inline(always)]
fn v6_connect_failed(hook: Hook, sk: Sock, sockaddr: u64) {
    if !reported(sk) {
        no_source_address(
            hook,
            sk,
            Ends {
                local: sk.local_v6(),
                remote: Some(kernel_sockaddr(sockaddr)),
            },
        );
    }
}

/// No address of this host can be the source for that destination.
#[inline(always)]
pub fn no_source_address(hook: Hook, sk: Sock, ends: Ends) {
    let failure = Failure {
        kind: Kind::ConnectFailed,
        cause: Cause::NoSourceAddress,
        hook,
        sk,
    };
    call_failed(failure, EADDRNOTAVAIL as u16, ends);
    remember_reported(sk);
}

/// `connect()` returns EADDRNOTAVAIL; says whether nobody reported it yet, and
/// forgets the call.
#[inline(always)]
pub fn call_is_unexplained(sk: Sock) -> bool {
    let explained = reported(sk);
    // Nothing to remove is fine.
    let _ = REPORTED.remove(bpf_get_current_pid_tgid());
    let protocol = sk.protocol();
    !explained && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
}

/// Nothing in the stack gave this errno: a cgroup or LSM program did.
#[inline(always)]
pub fn refused_by_policy(hook: Hook, sk: Sock, ends: Ends) {
    let failure = Failure {
        kind: Kind::ConnectFailed,
        cause: Cause::RefusedByPolicy,
        hook,
        sk,
    };
    call_failed(failure, EADDRNOTAVAIL as u16, ends);
}

#[inline(always)]
fn connect_file_failed(hook: Hook, file: u64, sockaddr: u64) {
    let Some(socket) = File(file).socket() else {
        return;
    };
    let sk = socket.sock();
    if call_is_unexplained(sk) {
        let ends = Ends {
            local: sk.local(),
            remote: Some(kernel_sockaddr(sockaddr)),
        };
        refused_by_policy(hook, sk, ends);
    }
}

const FAILED: i32 = -EADDRNOTAVAIL;

/// match-proto: int inet_hash_connect(struct inet_timewait_death_row *, struct sock *)
#[fexit]
pub fn fexit_inet_hash_connect(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(2) == FAILED {
        search_failed(Hook::FexitInetHashConnect, Sock(ctx.arg(1)));
    }
    0
}

/// match-proto: int inet6_hash_connect(struct inet_timewait_death_row *, struct sock *)
#[fexit]
pub fn fexit_inet6_hash_connect(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(2) == FAILED {
        search_failed(Hook::FexitInet6HashConnect, Sock(ctx.arg(1)));
    }
    0
}

/// match-proto: int tcp_v6_connect(struct sock *, struct sockaddr *, int)
#[fexit]
pub fn fexit_tcp_v6_connect(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(3) == FAILED {
        v6_connect_failed(Hook::FexitTcpV6Connect, Sock(ctx.arg(0)), ctx.arg(1));
    }
    0
}

/// match-proto: int __sys_connect_file(struct file *, struct sockaddr_storage *, int, int)
#[fexit]
pub fn fexit_sys_connect_file(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(4) == FAILED {
        connect_file_failed(Hook::FexitSysConnectFile, ctx.arg(0), ctx.arg(1));
    }
    0
}

// The inner function of both families, whose second argument is the socket on
// every kernel; the others changed in between.
probe_pair!(
    kprobe_inet_hash_connect,
    kretprobe_inet_hash_connect,
    Hook::KretInetHashConnect,
    [1, 1],
    |ret| ret == FAILED,
    |ctx, call| search_failed(Hook::KretInetHashConnect, Sock(call.arg0))
);
probe_pair!(
    kprobe_tcp_v6_connect,
    kretprobe_tcp_v6_connect,
    Hook::KretTcpV6Connect,
    [0, 1],
    |ret| ret == FAILED,
    |ctx, call| v6_connect_failed(Hook::KretTcpV6Connect, Sock(call.arg0), call.arg1)
);
probe_pair!(
    kprobe_sys_connect_file,
    kretprobe_sys_connect_file,
    Hook::KretSysConnectFile,
    [0, 1],
    |ret| ret == FAILED,
    |ctx, call| connect_file_failed(Hook::KretSysConnectFile, call.arg0, call.arg1)
);

//! One file per question. A file holds the decision and, below it, the programs
//! of the tiers that share it; `state`, `syscall` and `cgroup` are the portable
//! tier's own places to look from.

pub mod accept;
pub mod bind;
pub mod calls;
pub mod cgroup;
pub mod close;
pub mod connect;
pub mod final_ack;
pub mod listen;
pub mod state;
pub mod syn;
pub mod syscall;

/// errno values of the failures tracer exists for (asm-generic/errno.h; the
/// same on every architecture that Linux has BPF for, except MIPS and PA-RISC).
pub const EADDRINUSE: i32 = 98;
/// See [`EADDRINUSE`].
pub const EADDRNOTAVAIL: i32 = 99;

/// See [`EADDRINUSE`].
pub const EINTR: i32 = 4;
/// See [`EADDRINUSE`].
pub const EAGAIN: i32 = 11;
/// See [`EADDRINUSE`].
pub const ECONNABORTED: i32 = 103;

pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
pub const IPPROTO_MPTCP: u16 = 262;

/// `enum tcp_state` of the kernel (include/net/tcp_states.h).
pub const TCP_SYN_SENT: i32 = 2;
/// See [`TCP_SYN_SENT`].
pub const TCP_FIN_WAIT1: i32 = 4;
/// See [`TCP_SYN_SENT`].
pub const TCP_CLOSE: i32 = 7;
/// See [`TCP_SYN_SENT`].
pub const TCP_LISTEN: i32 = 10;
/// See [`TCP_SYN_SENT`].
pub const TCP_NEW_SYN_RECV: u32 = 12;

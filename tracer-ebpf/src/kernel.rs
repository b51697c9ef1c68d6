//! The only file that reads kernel (and user) memory.
//!
//! Offsets come from the running kernel's BTF through [`CONFIG`]; a read that
//! fails or an offset that is absent yields zero, which every caller treats as
//! "not known".

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::task_struct,
    cty::{c_long, c_void},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
        generated::{
            bpf_get_current_task_btf, bpf_jiffies64, bpf_probe_read_kernel, bpf_probe_read_user,
            bpf_task_pt_regs,
        },
    },
};
use tracer_common::{ABSENT, Config, Family, Task, flag};

use crate::filter;

/// Patched by user space before load; constant for the verifier.
#[unsafe(no_mangle)]
static CONFIG: Config = Config::EMPTY;

/// One value of [`CONFIG`].
macro_rules! config {
    ($field:ident) => {
        // SAFETY: CONFIG is a valid static; volatile, because user space replaces
        // its bytes after this was compiled.
        unsafe { core::ptr::read_volatile(&raw const crate::kernel::CONFIG.$field) }
    };
}

const AF_INET6: u16 = 10;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const PF_KTHREAD: u32 = 0x0020_0000;

#[inline(always)]
fn read<T: Copy + Default>(base: u64, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    copy(bpf_probe_read_kernel, base.wrapping_add(offset as u64))
}

#[inline(always)]
fn read_user<T: Copy>(address: u64) -> T {
    copy(bpf_probe_read_user, address)
}

/// One of the two helpers above.
type Reader = unsafe fn(*mut c_void, u32, *const c_void) -> c_long;

/// What lies at `address`, or zeros. It does not ask whether the helper failed: each
/// such question doubles the ways through a program that verifiers such as 5.10's
/// follow to the end, and a million instructions are soon reached.
#[inline(always)]
fn copy<T: Copy>(reader: Reader, address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address itself, and writes all of `value`: where
    // it fails, zeros (bpf_probe_read_kernel_common and bpf_probe_read_user_common,
    // kernel/trace/bpf_trace.c, 5.10 to 7.2). Every T used here is plain integers.
    unsafe {
        reader(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
        value.assume_init()
    }
}

/// An address with its family, in the form of [`tracer_common::Event`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Address {
    pub family: Family,
    pub ip: [u8; 16],
    pub port: u16,
}

impl Address {
    #[inline(always)]
    pub fn v4(ip: [u8; 4], port: u16) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = ip[0];
        bytes[1] = ip[1];
        bytes[2] = ip[2];
        bytes[3] = ip[3];
        Self {
            family: Family::V4,
            ip: bytes,
            port,
        }
    }

    /// A v4-mapped address becomes the IPv4 address it stands for.
    #[inline(always)]
    pub fn v6(ip: [u8; 16], port: u16) -> Self {
        if is_v4_mapped(&ip) {
            return Self::v4([ip[12], ip[13], ip[14], ip[15]], port);
        }
        Self {
            family: Family::V6,
            ip,
            port,
        }
    }
}

#[inline(always)]
fn is_v4_mapped(ip: &[u8; 16]) -> bool {
    let mut zero = 0;
    let mut i = 0;
    while i < 10 {
        zero |= ip[i];
        i += 1;
    }
    zero == 0 && ip[10] == 0xff && ip[11] == 0xff
}

/// Decodes a `sockaddr_in` / `sockaddr_in6` with the given reader.
#[inline(always)]
fn sockaddr(family: u16, port: [u8; 2], v4: [u8; 4], v6: [u8; 16]) -> Address {
    let port = u16::from_be_bytes(port);
    if family == AF_INET6 {
        Address::v6(v6, port)
    } else {
        Address::v4(v4, port)
    }
}

/// The address in a `struct sockaddr` that the kernel has copied in.
#[inline(always)]
pub fn kernel_sockaddr(address: u64) -> Address {
    sockaddr(
        read(address, 0),
        read(address, 2),
        read(address, 4),
        read(address, 8),
    )
}

/// The address in a `struct sockaddr` of the calling process.
#[inline(always)]
pub fn user_sockaddr(address: u64) -> Address {
    sockaddr(
        read_user(address),
        read_user(address + 2),
        read_user(address + 4),
        read_user(address + 8),
    )
}

/// A `struct sock` (or the `sock_common` of a request socket).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sock(pub u64);

impl Sock {
    #[inline(always)]
    pub fn is_ipv6(self) -> bool {
        read::<u16>(self.0, config!(sk_family)) == AF_INET6
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        read(self.0, config!(sk_state))
    }

    #[inline(always)]
    pub fn protocol(self) -> u16 {
        read(self.0, config!(sk_protocol))
    }

    /// The local port (`inet_num`), host order; 0: none yet.
    #[inline(always)]
    pub fn port(self) -> u16 {
        read(self.0, config!(sk_num))
    }

    /// `skc_hash`: set when the 4-tuple enters the table of connections,
    /// never cleared.
    #[inline(always)]
    pub fn hash(self) -> u32 {
        read(self.0, config!(sk_hash))
    }

    /// Both ends of a connection. IPv4 also for an IPv6 socket that speaks to a
    /// v4-mapped address. Read one by one: programs that describe a failure have no
    /// stack left for [`Self::connection`]'s copy.
    #[inline(always)]
    pub fn ends(self) -> (Address, Address) {
        let remote_port = u16::from_be_bytes(read(self.0, config!(sk_dport)));
        if self.is_ipv6() {
            let remote = Address::v6(read(self.0, config!(sk_v6_daddr)), remote_port);
            if remote.family == Family::V6 {
                return (self.local_v6(), remote);
            }
        }
        let remote = Address::v4(read(self.0, config!(sk_daddr)), remote_port);
        (self.local_v4(), remote)
    }

    /// The same and the namespace, by one read of what all of it lies in: for
    /// every connection that is closed.
    #[inline(always)]
    pub fn connection(self) -> (Address, Address, Net) {
        let common = self.common();
        let (local_port, remote_port) = (
            common.at(self, config!(sk_num)),
            u16::from_be_bytes(common.at(self, config!(sk_dport))),
        );
        let net = Net(common.at(self, config!(sk_net)));
        if common.at::<u16>(self, config!(sk_family)) == AF_INET6 {
            let remote: [u64; 2] = common.at(self, config!(sk_v6_daddr));
            let remote = Address::v6(bytes(remote), remote_port);
            if remote.family == Family::V6 {
                let local: [u64; 2] = common.at(self, config!(sk_v6_rcv_saddr));
                return (Address::v6(bytes(local), local_port), remote, net);
            }
        }
        let local: [u8; 4] = common.at::<u32>(self, config!(sk_rcv_saddr)).to_ne_bytes();
        let remote: [u8; 4] = common.at::<u32>(self, config!(sk_daddr)).to_ne_bytes();
        (
            Address::v4(local, local_port),
            Address::v4(remote, remote_port),
            net,
        )
    }

    #[inline(always)]
    fn common(self) -> Common {
        // A struct sock is larger than this.
        Common(copy(bpf_probe_read_kernel, self.0))
    }

    #[inline(always)]
    fn local_v4(self) -> Address {
        Address::v4(read(self.0, config!(sk_rcv_saddr)), self.port())
    }

    #[inline(always)]
    pub fn local_v6(self) -> Address {
        Address::v6(read(self.0, config!(sk_v6_rcv_saddr)), self.port())
    }

    /// Local address, by the socket's own family.
    #[inline(always)]
    pub fn local(self) -> Address {
        if self.is_ipv6() {
            self.local_v6()
        } else {
            self.local_v4()
        }
    }

    #[inline(always)]
    pub fn accept_queue(self) -> (u32, u32) {
        (
            read(self.0, config!(sk_ack_backlog)),
            read(self.0, config!(sk_max_ack_backlog)),
        )
    }

    /// The socket's own `IP_LOCAL_PORT_RANGE`; zeroes: none, or unknown to this
    /// kernel. Two u16, or one u32 with the low port in its low half.
    #[inline(always)]
    pub fn own_port_range(self) -> (u16, u16) {
        let both: u32 = read(self.0, config!(inet_local_port_range));
        (both as u16, (both >> 16) as u16)
    }

    #[inline(always)]
    pub fn request_queue_len(self) -> u32 {
        read(self.0, config!(icsk_qlen))
    }

    /// For so many timeouts of a request a bare ACK is ignored (`TCP_DEFER_ACCEPT`).
    #[inline(always)]
    pub fn defer_accept(self) -> u8 {
        read(self.0, config!(icsk_defer_accept))
    }

    /// Whether this listener has sent syncookies that are still good for an answer
    /// (tcp_synq_no_recent_overflow(), include/net/tcp.h). The kernel stamps a listener,
    /// or the group that it is in by SO_REUSEPORT.
    #[inline(always)]
    pub fn sent_syncookies(self) -> bool {
        let group: u64 = read(self.0, config!(sk_reuseport_cb));
        let of_group: u32 = if group == 0 {
            0
        } else {
            read(group, config!(reuseport_synq_overflow_ts))
        };
        // A listener's own stamp dates from before it had a group, or from after it left
        // the option.
        let own: u32 = read(self.0, config!(tp_ts_recent_stamp));
        is_recent(of_group) | is_recent(own)
    }

    /// Of a request socket: its listener, or 0 for a request rebuilt from a
    /// syncookie.
    #[inline(always)]
    pub fn request_listener(self) -> u64 {
        read(self.0, config!(sk_listener))
    }

    /// Of a request socket: the sequence number of our SYN-ACK.
    #[inline(always)]
    pub fn request_isn(self) -> u32 {
        read(self.0, config!(treq_snt_isn))
    }

    /// Of a request socket: the client's initial sequence number.
    #[inline(always)]
    pub fn request_rcv_isn(self) -> u32 {
        read(self.0, config!(treq_rcv_isn))
    }

    /// Of a request socket: the sequence number that is expected next.
    #[inline(always)]
    pub fn request_rcv_nxt(self) -> u32 {
        read(self.0, config!(treq_rcv_nxt))
    }

    /// Of a request socket: the window that was offered.
    #[inline(always)]
    pub fn request_rcv_wnd(self) -> u32 {
        read(self.0, config!(req_rcv_wnd))
    }

    /// Of a request socket: how often its SYN-ACK was sent again for want of an answer.
    #[inline(always)]
    pub fn request_timeouts(self) -> u8 {
        read::<u8>(self.0, config!(req_num_timeout)) >> 1
    }

    #[inline(always)]
    pub fn socket(self) -> Socket {
        Socket(read(self.0, config!(sk_socket)))
    }

    #[inline(always)]
    pub fn net(self) -> Net {
        Net(read(self.0, config!(sk_net)))
    }
}

/// For how many seconds a syncookie is valid (`TCP_SYNCOOKIE_VALID`).
const COOKIES_VALID: u32 = 120;

/// Whether syncookies sent at `stamp` (jiffies; 0: never) may still be answered. Where
/// the length of a jiffy is not known every stamp is recent.
#[inline(always)]
fn is_recent(stamp: u32) -> bool {
    let hz = config!(hz);
    if stamp == 0 || hz == ABSENT {
        return stamp != 0;
    }
    // SAFETY: the helper takes nothing and only reads a clock.
    let now = unsafe { bpf_jiffies64() } as u32;
    // The kernel lets a stamp lie up to a second ahead.
    now.wrapping_sub(stamp).wrapping_add(hz) <= (COOKIES_VALID + 1).wrapping_mul(hz)
}

/// The beginning of a `struct sock_common`, copied.
#[derive(Clone, Copy)]
struct Common([u64; COMMON_WORDS]);

/// Addresses, ports and namespace lie in the first 88 bytes on every kernel
/// seen so far; what does not is read by itself.
const COMMON_WORDS: usize = 12;

impl Common {
    #[inline(always)]
    fn at<T: Copy + Default>(&self, sk: Sock, offset: u32) -> T {
        if offset as usize + size_of::<T>() > size_of::<Self>() {
            return read(sk.0, offset);
        }
        // SAFETY: within the copy, and aligned as the kernel's own member is:
        // T is an integer (or two) of its size.
        unsafe {
            *self
                .0
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<T>()
        }
    }
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: sixteen plain bytes either way.
    unsafe { core::mem::transmute(words) }
}

/// A `struct socket`: the file's side of a [`Sock`].
#[derive(Clone, Copy)]
pub struct Socket(pub u64);

impl Socket {
    /// 0 for an orphan.
    #[inline(always)]
    pub fn inode(self) -> u64 {
        read(self.0, config!(socket_ino))
    }

    #[inline(always)]
    pub fn exists(self) -> bool {
        self.0 != 0
    }

    #[inline(always)]
    pub fn has_file(self) -> bool {
        read::<u64>(self.0, config!(socket_file)) != 0
    }

    /// `SS_UNCONNECTED`, `SS_CONNECTING`, … (include/uapi/linux/net.h).
    #[inline(always)]
    pub fn state(self) -> u32 {
        read(self.0, config!(socket_state))
    }

    #[inline(always)]
    pub fn sock(self) -> Sock {
        Sock(read(self.0, config!(socket_sk)))
    }
}

/// A `struct net`.
#[derive(Clone, Copy)]
pub struct Net(u64);

impl Net {
    #[inline(always)]
    pub fn inum(self) -> u32 {
        read(self.0, config!(net_inum))
    }

    /// What tells this namespace from an earlier one with the same inode number: its
    /// cookie, or where the kernel has none from the start a random number of its own.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        if config!(net_cookie) == ABSENT {
            read::<u32>(self.0, config!(net_hash_mix)) as u64
        } else {
            read(self.0, config!(net_cookie))
        }
    }

    #[inline(always)]
    pub fn syncookies(self) -> u8 {
        read(self.0, config!(net_syncookies))
    }

    #[inline(always)]
    pub fn abort_on_overflow(self) -> bool {
        read::<u8>(self.0, config!(net_abort_on_overflow)) != 0
    }

    #[inline(always)]
    pub fn somaxconn(self) -> u32 {
        read(self.0, config!(net_somaxconn))
    }

    #[inline(always)]
    pub fn max_syn_backlog(self) -> u32 {
        read(self.0, config!(net_max_syn_backlog))
    }
}

/// A `struct sk_buff` on its way up, headers already located by the stack.
#[derive(Clone, Copy)]
pub struct Skb(pub u64);

impl Skb {
    /// Source and destination of the TCP segment; the version is read from
    /// the IP header itself.
    #[inline(always)]
    pub fn addresses(self) -> (Address, Address) {
        let head: u64 = read(self.0, config!(skb_head));
        let ip = head + read::<u16>(self.0, config!(skb_network_header)) as u64;
        let tcp = head + read::<u16>(self.0, config!(skb_transport_header)) as u64;
        let from = u16::from_be_bytes(read(tcp, 0));
        let to = u16::from_be_bytes(read(tcp, 2));
        if read::<u8>(ip, 0) >> 4 == 4 {
            (
                Address::v4(read(ip, 12), from),
                Address::v4(read(ip, 16), to),
            )
        } else {
            (
                Address::v6(read(ip, 8), from),
                Address::v6(read(ip, 24), to),
            )
        }
    }
}

/// A `struct file`.
#[derive(Clone, Copy)]
pub struct File(pub u64);

impl File {
    /// The socket behind it, if it is one.
    #[inline(always)]
    pub fn socket(self) -> Option<Socket> {
        let inode: u64 = read(self.0, config!(file_inode));
        if read::<u16>(inode, config!(inode_mode)) & S_IFMT != S_IFSOCK {
            return None;
        }
        Some(Socket(read(self.0, config!(file_private))))
    }
}

#[inline(always)]
fn current() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// The socket that `fd` names in the calling process.
#[inline(always)]
pub fn socket_of_fd(fd: u32) -> Option<Socket> {
    let files: u64 = read(current(), config!(task_files));
    let table: u64 = read(files, config!(files_fdt));
    if fd >= read::<u32>(table, config!(fdt_max_fds)) {
        return None;
    }
    let slots: u64 = read(table, config!(fdt_fd));
    File(read(slots + fd as u64 * 8, 0)).socket()
}

/// The first two arguments of the syscall that is about to return.
/// `bpf_task_pt_regs` is not in 5.10; `None` then.
#[inline(always)]
pub fn syscall_args() -> Option<(u64, u64)> {
    let regs = syscall_registers()?;
    Some((
        read(regs, config!(regs_arg0)),
        read(regs, config!(regs_arg1)),
    ))
}

#[inline(always)]
fn syscall_registers() -> Option<u64> {
    if config!(has_task_pt_regs) != 1 {
        return None;
    }
    // SAFETY: both helpers exist (has_task_pt_regs) and the task is current.
    let regs = unsafe {
        let task: *mut task_struct = bpf_get_current_task_btf();
        bpf_task_pt_regs(task)
    };
    Some(regs as u64)
}

/// The backlog in the `listen()` that is running; `None` if it is another
/// syscall that makes a listener, or cannot be seen (5.10).
#[inline(always)]
pub fn asked_backlog() -> Option<i32> {
    const LISTEN: u64 = 50;
    let regs = syscall_registers()?;
    if read::<u64>(regs, config!(regs_number)) != LISTEN {
        return None;
    }
    Some(read::<u64>(regs, config!(regs_arg1)) as i32)
}

/// When the running process started; see [`Task::start_ns`].
#[inline(always)]
pub fn current_start() -> u64 {
    read(leader(bpf_get_current_pid_tgid()), config!(task_start))
}

/// The group leader of the running task, which has this pid_tgid: often itself.
#[inline(always)]
fn leader(id: u64) -> u64 {
    if id as u32 == (id >> 32) as u32 {
        current()
    } else {
        read(current(), config!(task_leader))
    }
}

/// The running process. Only for hooks in the context of a syscall.
#[inline(always)]
pub fn current_task() -> Task {
    let id = bpf_get_current_pid_tgid();
    let task = current();
    let leader = leader(id);
    let kernel = read::<u32>(task, config!(task_flags)) & PF_KTHREAD != 0;
    Task {
        tgid: (id >> 32) as u32,
        tid: id as u32,
        uid: bpf_get_current_uid_gid() as u32,
        flags: if kernel { flag::KERNEL_THREAD } else { 0 } | filter::descent(),
        start_ns: read(leader, config!(task_start)),
        comm: read(leader, config!(task_comm)),
    }
}

/// How many ancestors of a process are looked at.
const GENERATIONS: u32 = 32;

/// Whether the process with this id is an ancestor of the running one. The parents of a
/// running task are alive or have been replaced by whoever adopted it.
#[inline(always)]
pub fn is_below(ancestor: u32) -> bool {
    let mut task = current();
    let mut generation = 0;
    while generation < GENERATIONS {
        task = read(task, config!(task_parent));
        let id: u32 = read(task, config!(task_tgid));
        if id == ancestor {
            return true;
        }
        // The idle task, whose parent is itself.
        if id == 0 {
            return false;
        }
        generation += 1;
    }
    false
}

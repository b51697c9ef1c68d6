//! The few system calls that std does not offer, as safe functions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void};

/// -1 becomes the thread's errno.
pub(crate) fn check(ret: c_int) -> io::Result<c_int> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// The same for the wide results of `syscall(2)`.
pub(crate) fn check_long(ret: libc::c_long) -> io::Result<c_int> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        c_int::try_from(ret).map_err(io::Error::other)
    }
}

/// A socket address as the kernel wants it.
pub(crate) fn encode(addr: &SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    bytes.extend_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&addr.port().to_be_bytes());
    match addr {
        SocketAddr::V4(v4) => {
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.resize(16, 0);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&v6.flowinfo().to_be_bytes());
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = c_int::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let ip = if family == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?,
        ))
    };
    Some(SocketAddr::new(ip, port))
}

/// socket(2); the descriptor is closed on exec.
pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<RawFd> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })
}

/// socket(2) as an owned descriptor.
pub(crate) fn owned_socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let fd = socket(family, kind, protocol)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn with_addr(
    addr: &SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> c_int,
) -> io::Result<c_int> {
    let bytes = encode(addr);
    let len = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
    check(call(bytes.as_ptr().cast(), len))
}

/// bind(2)
pub(crate) fn bind(fd: RawFd, addr: &SocketAddr) -> io::Result<c_int> {
    // SAFETY: pointer and length describe a live buffer.
    with_addr(addr, |ptr, len| unsafe { libc::bind(fd, ptr, len) })
}

/// connect(2)
pub(crate) fn connect(fd: RawFd, addr: &SocketAddr) -> io::Result<c_int> {
    // SAFETY: pointer and length describe a live buffer.
    with_addr(addr, |ptr, len| unsafe { libc::connect(fd, ptr, len) })
}

/// connect(2) with AF_UNSPEC: the socket forgets its peer.
pub(crate) fn disconnect(fd: RawFd) -> io::Result<c_int> {
    let unspecified = [0_u8; 16];
    // SAFETY: the buffer is 16 bytes long.
    check(unsafe { libc::connect(fd, unspecified.as_ptr().cast(), 16) })
}

/// sendto(2) with MSG_FASTOPEN: a connect without connect(2).
pub(crate) fn fast_open(fd: RawFd, addr: &SocketAddr) -> io::Result<c_int> {
    with_addr(addr, |ptr, len| {
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
        // SAFETY: one byte of payload and an address, both live.
        let sent = unsafe { libc::sendto(fd, c"x".as_ptr().cast(), 1, flags, ptr, len) };
        c_int::try_from(sent).unwrap_or(-1)
    })
}

/// listen(2)
pub(crate) fn listen(fd: RawFd, backlog: c_int) -> io::Result<c_int> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd, backlog) })
}

/// accept4(2), after waiting for a connection no longer than `limit`.
pub(crate) fn accept(fd: RawFd, limit: Duration) -> io::Result<c_int> {
    if !readable(fd, limit)? {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    // SAFETY: null pointers ask for no address.
    check(unsafe {
        libc::accept4(
            fd,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    })
}

/// accept4(2), when a connection is there.
pub(crate) fn accept_now(fd: RawFd) -> io::Result<c_int> {
    let none = ptr::null_mut();
    // SAFETY: null pointers ask for no address.
    check(unsafe { libc::accept4(fd, none, ptr::null_mut(), libc::SOCK_CLOEXEC) })
}

/// True when `fd` can be read within `limit`.
pub(crate) fn readable(fd: RawFd, limit: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let ms = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one pollfd is passed.
    Ok(check(unsafe { libc::poll(&raw mut poll, 1, ms) })? > 0)
}

/// getsockname(2)
pub(crate) fn name(fd: RawFd) -> io::Result<SocketAddr> {
    let mut bytes = [0_u8; 28];
    let mut len: libc::socklen_t = 28;
    // SAFETY: the buffer is `len` bytes long.
    check(unsafe { libc::getsockname(fd, bytes.as_mut_ptr().cast(), &raw mut len) })?;
    decode(&bytes).ok_or_else(|| io::Error::other("address of an unknown family"))
}

/// A socket option that is a number.
pub(crate) fn set_option(fd: RawFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let ptr: *const c_int = &raw const value;
    // SAFETY: four readable bytes are passed.
    check(unsafe { libc::setsockopt(fd, level, option, ptr.cast::<c_void>(), 4) })?;
    Ok(())
}

/// O_NONBLOCK
pub(crate) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(())
}

/// shutdown(2) of the sending side
pub(crate) fn shutdown(fd: RawFd) -> io::Result<c_int> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) })
}

/// close(2) with a reset instead of a FIN.
pub(crate) fn reset(fd: RawFd) -> io::Result<c_int> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let ptr = (&raw const linger).cast();
    // SAFETY: eight readable bytes are passed.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, ptr, 8) })?;
    close(fd)
}

/// close(2)
pub(crate) fn close(fd: RawFd) -> io::Result<c_int> {
    // SAFETY: the callers own the number; a stale one only gives EBADF.
    check(unsafe { libc::close(fd) })
}

/// Reads from a socket until its peer has closed it.
pub(crate) fn await_end(fd: RawFd) -> io::Result<()> {
    let mut bytes = [0_u8; 64];
    loop {
        // SAFETY: the buffer is valid for writing as many bytes as are asked for.
        let read = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match read {
            0 => return Ok(()),
            1.. => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

/// Sets the wall clock, to a time since 1970.
pub(crate) fn set_clock(time: Duration) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).map_err(io::Error::other)?,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // SAFETY: the time is valid for reading for the whole call.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(|_| ())
}

/// A terminal: the end that a person would sit at, and the one for programs.
pub(crate) fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut near, mut far) = (-1, -1);
    let (none, size, modes) = (ptr::null_mut(), ptr::null(), ptr::null());
    // SAFETY: two numbers of ours are written; the rest may be null.
    check(unsafe { libc::openpty(&raw mut near, &raw mut far, none, modes, size) })?;
    // SAFETY: fresh descriptors that nobody else owns, here and below.
    let near = unsafe { OwnedFd::from_raw_fd(near) };
    // SAFETY: as above.
    let far = unsafe { OwnedFd::from_raw_fd(far) };
    Ok((near, far))
}

/// Names the calling thread (for a main thread: the process).
pub(crate) fn set_comm(comm: &[u8]) -> io::Result<()> {
    let mut bytes = [0_u8; 16];
    for (slot, byte) in bytes.iter_mut().take(15).zip(comm) {
        *slot = *byte;
    }
    // SAFETY: the kernel reads at most 16 bytes, the last one is 0.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) })?;
    Ok(())
}

/// This process ends with the thread that started it.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

/// Enters a network namespace with the calling thread.
pub(crate) fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(namespace, libc::CLONE_NEWNET) })?;
    Ok(())
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn allow_files() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for writing for the whole call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is valid for reading for the whole call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}

/// This process may have so many descriptors; those that it has stay open.
pub(crate) fn limit_files(most: u64) -> io::Result<c_int> {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the limit is valid for reading for the whole call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// This process becomes nobody, with all its capabilities but `missing` (a mask), also
/// in what it executes.
pub(crate) fn be_nobody(missing: u64) -> io::Result<()> {
    const NOBODY: u32 = 65534;
    const VERSION_3: u32 = 0x2008_0522;
    // struct __user_cap_header_struct and two of struct __user_cap_data_struct:
    // effective, permitted, inheritable; the low halves come first.
    let header = [VERSION_3, 0];
    let mut data = [0_u32; 6];
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1) })?;
    // SAFETY: no group is passed.
    check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::setgid(NOBODY) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::setuid(NOBODY) })?;
    // SAFETY: both are as large as the kernel wants them for this version.
    let ret = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    check_long(ret)?;
    let kept = (u64::from(data[4]) << 32 | u64::from(data[1])) & !missing;
    for (half, at) in [(kept, 0), (kept >> 32, 3)] {
        let half = u32::try_from(half & u64::from(u32::MAX)).map_err(io::Error::other)?;
        data[at..at + 3].fill(half);
    }
    // SAFETY: as above.
    let ret = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    check_long(ret)?;
    for number in (0..u64::BITS).filter(|number| kept & 1 << number != 0) {
        let (raise, none) = (libc::PR_CAP_AMBIENT_RAISE, 0);
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, none, none) })?;
    }
    Ok(())
}

/// From now on this system call is not permitted, here and in what is executed.
pub(crate) fn forbid_call(number: libc::c_long) -> io::Result<()> {
    // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
    // (linux/bpf_common.h); the number is the first word of struct seccomp_data.
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let not_permitted = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut filter = [
        line(0x20, 0, 0, 0),
        line(0x15, 0, 1, u32::try_from(number).map_err(io::Error::other)?),
        line(0x06, 0, 0, not_permitted),
        line(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its four lines are valid for the whole call.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Orphans of our children become ours, so that they can be waited for by pid.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) })?;
    Ok(())
}

/// The calling thread's id.
pub(crate) fn thread_id() -> c_int {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// fork(2), for processes that have one thread: the child may go on as it likes.
pub(crate) fn fork() -> io::Result<c_int> {
    // SAFETY: no other thread can hold a lock that the child needs.
    check(unsafe { libc::fork() })
}

/// A child that does this `work` and is gone, as posix_spawn(3) makes one: it borrows our
/// memory, and we wait meanwhile. Thousands a second are possible so. Its pid.
pub(crate) fn run_in_child(work: &dyn Fn() -> c_int) -> io::Result<c_int> {
    extern "C" fn enter(work: *mut c_void) -> c_int {
        // SAFETY: the caller passes this, and waits until the child is gone.
        let work = unsafe { &*work.cast::<&dyn Fn() -> c_int>() };
        work()
    }
    const STACK: usize = 64 << 10;
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let work: *const &dyn Fn() -> c_int = &raw const work;
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child has a stack of its own, which grows down from its end, and uses
    // our memory only while we wait for it; there is no other thread.
    check(unsafe { libc::clone(enter, top.cast(), flags, work.cast_mut().cast()) })
}

/// fork(2), and the child gets a pid that is known to be free.
pub(crate) fn fork_as(pid: i32) -> io::Result<c_int> {
    let wanted = [pid];
    // struct clone_args: exit_signal is the fifth member, set_tid the ninth.
    let mut arguments = [0_u64; 11];
    arguments[4] = u64::try_from(libc::SIGCHLD).unwrap_or_default();
    arguments[8] = wanted.as_ptr() as u64;
    arguments[9] = 1;
    let size = std::mem::size_of_val(&arguments);
    // SAFETY: without flags this is fork(2); no other thread can hold a lock that the
    // child needs.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) };
    check_long(ret)
}

/// kill(2), one process by its pid.
pub(crate) fn signal(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Reaps one child by its pid; its wait status.
pub(crate) fn wait(pid: i32) -> io::Result<c_int> {
    let mut status = 0;
    // SAFETY: the status pointer is live.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(status)
}

/// A copy of another process's descriptor, as SCM_RIGHTS would give it.
pub(crate) fn take_descriptor(pid: i32, fd: RawFd) -> io::Result<c_int> {
    // SAFETY: no memory is passed.
    let process = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: no memory is passed.
    let taken = check_long(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) });
    close(process)?;
    taken
}

/// An ioctl(2) that reads or writes `argument`.
pub(crate) fn ioctl(fd: RawFd, request: libc::c_ulong, argument: &mut [u8]) -> io::Result<()> {
    // SAFETY: the callers pass a buffer of the size that `request` works on.
    check(unsafe { libc::ioctl(fd, request as _, argument.as_mut_ptr()) })?;
    Ok(())
}

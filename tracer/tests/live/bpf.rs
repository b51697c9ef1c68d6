//! bpf(2), as little of it as the tests need: a policy program of a cgroup, and
//! the names and costs of all loaded programs.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use crate::sys;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const ENABLE_STATS: libc::c_int = 32;
const RUN_TIME: u32 = 0;
const TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const ATTACH_INET4_CONNECT: u32 = 10;
const HELPER_SET_RETVAL: i32 = 187;

/// `union bpf_attr`: members are written at their offsets.
#[repr(align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, offset: usize, value: RawFd) -> Self {
        self.u32(offset, value.cast_unsigned())
    }

    fn pointer(mut self, offset: usize, value: *const u8) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }

    fn word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn call(&mut self, command: libc::c_int) -> io::Result<i32> {
        // SAFETY: the attribute is 128 bytes long; pointers in it were set by the callers
        // to buffers that outlive the call.
        let ret = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), 128) };
        sys::check_long(ret)
    }
}

fn instruction(code: u8, destination: u8, immediate: i32) -> [u8; 8] {
    let mut bytes = [code, destination, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&immediate.to_ne_bytes());
    bytes
}

/// Before 5.11 programs count against the limit on locked memory, together with those
/// of tracer. (Where the limit cannot be lifted, kernels are newer.)
fn lift_memory_limit() {
    let none = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the structure is live.
    let _ = sys::check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) });
}

/// A cgroup/connect4 program that refuses every connect with `errno`.
pub(crate) fn load_refusal(errno: i32) -> io::Result<OwnedFd> {
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    let code = [
        instruction(MOVE, 1, -errno),
        instruction(CALL, 0, HELPER_SET_RETVAL),
        instruction(MOVE, 0, 0),
        instruction(EXIT, 0, 0),
    ]
    .concat();
    lift_memory_limit();
    let count = u32::try_from(code.len() / 8).map_err(io::Error::other)?;
    let fd = Attr::new()
        .u32(0, TYPE_CGROUP_SOCK_ADDR)
        .u32(4, count)
        .pointer(8, code.as_ptr())
        .pointer(16, c"GPL".as_ptr().cast())
        .u32(68, ATTACH_INET4_CONNECT)
        .call(PROG_LOAD)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches it to a cgroup; removing the cgroup ends it.
pub(crate) fn attach_refusal(program: &OwnedFd, cgroup: &std::fs::File) -> io::Result<()> {
    Attr::new()
        .fd(0, cgroup.as_raw_fd())
        .fd(4, program.as_raw_fd())
        .u32(8, ATTACH_INET4_CONNECT)
        .call(PROG_ATTACH)?;
    Ok(())
}

/// Has the kernel measure its programs until this is closed (since 5.8).
pub(crate) fn keep_statistics() -> io::Result<OwnedFd> {
    let fd = Attr::new().u32(0, RUN_TIME).call(ENABLE_STATS)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The ids and names of all programs that are loaded now.
pub(crate) fn programs() -> io::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    let mut id = 0;
    loop {
        let mut next = Attr::new().u32(0, id);
        match next.call(PROG_GET_NEXT_ID) {
            Ok(_) => id = next.word(4),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
        match name_of(id) {
            Ok(name) => found.push((id, name)),
            // It went away between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A program, and what it took while statistics were kept.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) ns: u64,
    pub(crate) runs: u64,
    /// Instructions that the verifier looked at; 0 before 5.16.
    pub(crate) verified: u64,
}

/// Of the program with this id.
pub(crate) fn cost(id: u32) -> io::Result<Cost> {
    let info = info(id)?;
    let word = |at: usize| {
        let bytes = info[at..at + 8].first_chunk().copied();
        u64::from_ne_bytes(bytes.unwrap_or_default())
    };
    Ok(Cost {
        name: name(&info),
        ns: word(192),
        runs: word(200),
        verified: word(216) & u64::from(u32::MAX),
    })
}

fn name_of(id: u32) -> io::Result<String> {
    Ok(name(&info(id)?))
}

fn name(info: &[u8]) -> String {
    let bytes = info[64..80].iter().take_while(|byte| **byte != 0);
    bytes.map(|byte| char::from(*byte)).collect()
}

/// `struct bpf_prog_info`; what this kernel does not have stays 0.
fn info(id: u32) -> io::Result<[u8; 232]> {
    let fd = Attr::new().u32(0, id).call(PROG_GET_FD_BY_ID)?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0_u8; 232];
    Attr::new()
        .fd(0, program.as_raw_fd())
        .u32(4, 232)
        .pointer(8, info.as_mut_ptr())
        .call(OBJ_GET_INFO_BY_FD)?;
    Ok(info)
}

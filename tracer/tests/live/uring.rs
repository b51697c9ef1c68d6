//! connect() through io_uring, with nothing but the raw system calls.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::sys;

const OP_CONNECT: u8 = 16;
const ENTER_GETEVENTS: u32 = 1;
const OFFSET_RINGS: libc::off_t = 0;
const OFFSET_SUBMISSIONS: libc::off_t = 0x1000_0000;

// Indices into `struct io_uring_params` as 32-bit words.
const SQ_TAIL: usize = 11;
const SQ_MASK: usize = 12;
const SQ_ARRAY: usize = 16;
const CQ_HEAD: usize = 20;
const CQ_MASK: usize = 22;
const CQ_ENTRIES: usize = 1;
const CQ_CQES: usize = 25;

/// A piece of memory shared with the kernel; never unmapped, the process is short-lived.
#[derive(Clone, Copy)]
struct Shared {
    base: *mut u8,
    len: usize,
}

impl Shared {
    fn map(fd: RawFd, len: usize, offset: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            base: base.cast(),
            len,
        })
    }

    fn word(self, offset: usize) -> io::Result<*mut u32> {
        if offset + 4 > self.len {
            return Err(io::Error::other("offset outside the ring"));
        }
        Ok(self.base.wrapping_add(offset).cast())
    }

    fn get(self, offset: usize) -> io::Result<u32> {
        let word = self.word(offset)?;
        // SAFETY: `word` proved that the offset lies inside the mapping; all are aligned.
        Ok(unsafe { word.read_volatile() })
    }

    fn set(self, offset: usize, value: u32) -> io::Result<()> {
        let word = self.word(offset)?;
        // SAFETY: `word` proved that the offset lies inside the mapping; all are aligned.
        unsafe { word.write_volatile(value) };
        Ok(())
    }
}

/// IORING_OP_CONNECT on a ring of its own; fails with the completion's errno.
pub(crate) fn connect(fd: RawFd, addr: &SocketAddr) -> io::Result<i32> {
    let mut params = [0_u32; 30];
    // SAFETY: 120 writable bytes, the size of struct io_uring_params.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    let ring = sys::check_long(ring)?;
    let at = |index: usize| params[index] as usize;
    let len = (at(SQ_ARRAY) + 64).max(at(CQ_CQES) + at(CQ_ENTRIES) * 16);
    let rings = Shared::map(ring, len, OFFSET_RINGS)?;
    let entry = Shared::map(ring, 64, OFFSET_SUBMISSIONS)?;

    let target = sys::encode(addr);
    let target_at = target.as_ptr() as u64;
    let halves = [target_at & 0xffff_ffff, target_at >> 32];
    entry.set(0, u32::from(OP_CONNECT))?;
    entry.set(4, fd.cast_unsigned())?;
    entry.set(8, u32::try_from(target.len()).map_err(io::Error::other)?)?;
    for (offset, half) in [16, 20].into_iter().zip(halves) {
        entry.set(offset, u32::try_from(half).map_err(io::Error::other)?)?;
    }
    let tail = rings.get(at(SQ_TAIL))?;
    let slot = tail & rings.get(at(SQ_MASK))?;
    rings.set(at(SQ_ARRAY) + slot as usize * 4, 0)?;
    rings.set(at(SQ_TAIL), tail.wrapping_add(1))?;

    let none = std::ptr::null::<u8>();
    // SAFETY: the entry points at `target`, which lives until the completion is read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring,
            1,
            1,
            ENTER_GETEVENTS,
            none,
            0,
        )
    };
    sys::check_long(done)?;
    let head = rings.get(at(CQ_HEAD))? & rings.get(at(CQ_MASK))?;
    let result = rings
        .get(at(CQ_CQES) + head as usize * 16 + 8)?
        .cast_signed();
    drop(target);
    sys::close(ring)?;
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(result)
}

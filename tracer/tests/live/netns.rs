//! Private network namespaces: made, entered, kept alive by a descriptor.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, anyhow};

use crate::{limits, netlink, sys};

/// A network namespace of our own. Its inode number stays unique while this lives.
#[derive(Debug)]
pub(crate) struct Namespace {
    handle: File,
    /// As tracer's `netns`.
    pub(crate) inum: u64,
}

impl Namespace {
    /// A fresh one with `lo` up.
    pub(crate) fn new() -> Result<Self> {
        let handle = on_new_thread(|| {
            // SAFETY: only the calling thread, made for this, changes its namespace.
            sys::check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
                .context("unshare(CLONE_NEWNET)")?;
            set_up("lo")?;
            File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
        })?;
        let inum = handle.metadata()?.ino();
        Ok(Self { handle, inum })
    }

    /// What keeps it.
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Runs `work` on a thread inside this namespace. Processes that it starts stay there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.handle.as_raw_fd();
        on_new_thread(move || {
            // SAFETY: only the calling thread, made for this, changes its namespace.
            sys::check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) }).context("setns")?;
            work()
        })
    }

    /// Writes a sysctl (path below /proc/sys) of this namespace.
    pub(crate) fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.run(|| std::fs::write(&file, value).with_context(|| format!("{file} = {value}")))
    }

    /// Leaves connect() and bind(0) four ports: 40000 to 40003.
    pub(crate) fn four_ports(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_local_port_range", "40000 40003")
    }

    /// Gives `device` an address and sets it up.
    pub(crate) fn address(&self, device: &str, ip: IpAddr, prefix: u8) -> Result<()> {
        self.run(|| {
            add_address(device, ip, prefix).with_context(|| format!("{ip} on {device}"))?;
            set_up(device)?;
            // The kernel takes an IPv6 address into use a moment later.
            limits::until("an address in use", || Ok(ip.is_ipv4() || in_use(device)?))
        })
    }

    /// A veth pair: `near` here, `far` in the other namespace.
    pub(crate) fn veth_to(&self, other: &Self, near: &str, far: &str) -> Result<()> {
        let fd = other.handle.as_raw_fd();
        self.run(|| netlink::add_veth(near, far, fd).context("veth pair"))
    }
}

fn on_new_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(anyhow!("a helper thread panicked")))
}

/// A `struct ifreq` with room for the largest member.
fn request_for(device: &str) -> [u8; 40] {
    let mut request = [0_u8; 40];
    for (slot, byte) in request.iter_mut().take(15).zip(device.bytes()) {
        *slot = byte;
    }
    request
}

/// The calling thread's `device` goes up; its other flags stay.
pub(crate) fn set_up(device: &str) -> Result<()> {
    let socket = sys::owned_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = request_for(device);
    let fd = socket.as_raw_fd();
    sys::ioctl(fd, libc::SIOCGIFFLAGS, &mut request).with_context(|| format!("{device} flags"))?;
    request[16] |= 1; // IFF_UP
    sys::ioctl(fd, libc::SIOCSIFFLAGS, &mut request).with_context(|| format!("{device} up"))
}

/// The index of a device in the calling thread's namespace.
pub(crate) fn index_of(device: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: a live C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// True when no IPv6 address of `device` is tentative any more.
fn in_use(device: &str) -> Result<bool> {
    const TENTATIVE: u32 = 0x40;
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    let mut flags = text.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        match columns[..] {
            [_, _, _, _, flags, name] if name == device => u32::from_str_radix(flags, 16).ok(),
            _ => None,
        }
    });
    Ok(flags.all(|flags| flags & TENTATIVE == 0))
}

fn add_address(device: &str, ip: IpAddr, prefix: u8) -> Result<()> {
    match ip {
        IpAddr::V4(_) => {
            let socket = sys::owned_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let mask = IpAddr::V4(mask.into());
            for (order, value) in [(libc::SIOCSIFADDR, ip), (libc::SIOCSIFNETMASK, mask)] {
                let mut request = request_for(device);
                request[16..32].copy_from_slice(&sys::encode(&SocketAddr::new(value, 0)));
                sys::ioctl(socket.as_raw_fd(), order, &mut request)?;
            }
        }
        IpAddr::V6(v6) => {
            let socket = sys::owned_socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
            let mut request = [0_u8; 24]; // struct in6_ifreq
            request[..16].copy_from_slice(&v6.octets());
            request[16..20].copy_from_slice(&u32::from(prefix).to_ne_bytes());
            request[20..].copy_from_slice(&index_of(device)?.to_ne_bytes());
            sys::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &mut request)?;
        }
    }
    Ok(())
}

/// An IPv6 default route through `device`, without a gateway.
pub(crate) fn default_route_v6(device: &str) -> Result<()> {
    let socket = sys::owned_socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    let mut route = [0_u8; 80]; // struct in6_rtmsg: three addresses, type, lengths, metric, info, flags, index
    route[56..60].copy_from_slice(&1_u32.to_ne_bytes()); // metric
    route[72..76].copy_from_slice(&1_u32.to_ne_bytes()); // RTF_UP
    route[76..].copy_from_slice(&index_of(device)?.to_ne_bytes());
    sys::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &mut route).context("default route")
}

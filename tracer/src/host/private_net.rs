//! Sets up a private network namespace: `lo`, addresses, routes, sysctls.

use std::{
    fs, io,
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, socket},
};

/// Every fresh namespace has this device, and it is the first.
const LOOPBACK: &[u8] = b"lo";
const LOOPBACK_INDEX: u32 = 1;

/// Sets `lo` of the calling thread's namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let mut request = [0_u8; size_of::<libc::ifreq>()];
    request[..LOOPBACK.len()].copy_from_slice(LOOPBACK);
    control(AddressFamily::INET, libc::SIOCGIFFLAGS, &mut request)?;
    let up = u8::try_from(libc::IFF_UP).unwrap_or_default();
    request[libc::IFNAMSIZ] |= up;
    control(AddressFamily::INET, libc::SIOCSIFFLAGS, &mut request)
}

/// Takes `::1` away, the only IPv6 address that there is, and leads everything to
/// `lo` instead: there is a route then, and no source address.
pub(crate) fn no_ipv6_addresses() -> io::Result<()> {
    control(AddressFamily::INET6, libc::SIOCDIFADDR, &mut loopback_v6())?;
    control(AddressFamily::INET6, libc::SIOCADDRT, &mut default_v6())
}

/// Undoes [`no_ipv6_addresses`].
///
/// # Errors
/// The kernel refuses to.
pub(crate) fn ipv6_address_back() -> io::Result<()> {
    control(AddressFamily::INET6, libc::SIOCDELRT, &mut default_v6())?;
    control(AddressFamily::INET6, libc::SIOCSIFADDR, &mut loopback_v6())
}

/// Whether lo has the address ::1: /proc/net/if_inet6 lists it.
pub(crate) fn has_ipv6_loopback() -> bool {
    let addresses = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    let address = format!("{:032x}", u128::from(Ipv6Addr::LOCALHOST));
    addresses.lines().any(|line| line.starts_with(&address))
}

/// ::1/128 of lo: struct in6_ifreq.
fn loopback_v6() -> [u8; 24] {
    // Address, prefix length, index.
    let mut address = [0_u8; 24];
    address[..16].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    address[16..20].copy_from_slice(&128_u32.to_ne_bytes());
    address[20..].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    address
}

/// A default route without gateway, by lo: struct in6_rtmsg.
fn default_v6() -> [u8; 80] {
    // Destination, source, gateway, type, lengths, metric, info, flags, index.
    const RTF_LOCAL: u32 = 0x8000_0000;
    let flags = u32::from(libc::RTF_UP) | RTF_LOCAL;
    let mut route = [0_u8; 80];
    route[56..60].copy_from_slice(&1_u32.to_ne_bytes());
    route[72..76].copy_from_slice(&flags.to_ne_bytes());
    route[76..].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    route
}

/// Writes a sysctl of the calling thread's namespace: its path below /proc/sys.
///
/// # Errors
/// /proc/sys cannot be written, or this kernel lacks the sysctl.
pub(crate) fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{name}"), value)
}

fn control(family: AddressFamily, request: libc::Ioctl, argument: &mut [u8]) -> io::Result<()> {
    let socket = socket(family, SocketType::DGRAM, None)?;
    // SAFETY: every caller passes the structure of its request, which the kernel
    // reads and may write.
    let answer = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            request,
            argument.as_mut_ptr().cast::<libc::c_void>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Leaves connections in the request queue until data come (`TCP_DEFER_ACCEPT`).
pub(crate) fn defer_accept(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let seconds: libc::c_int = 60;
    // SAFETY: the pointer is to four readable bytes.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            4,
        )
    };
    if answer < 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}

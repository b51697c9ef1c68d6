//! Which IP addresses does the network namespace of the calling thread have?

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Reads the addresses of all interfaces. To try bind() instead would be a
/// failure that tracer itself reports.
///
/// # Errors
/// The kernel does not tell them.
pub(crate) fn list() -> io::Result<HashSet<IpAddr>> {
    let mut first = ptr::null_mut();
    // SAFETY: the pointer is to a pointer that may be written.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = HashSet::new();
    let mut next = first;
    // SAFETY: null, or an entry of the list, which nobody has freed yet.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: an entry's address is null or one of the family that it says.
        addresses.extend(unsafe { address(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: it came from getifaddrs, and no reference into it is left.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// `None`: not of IP.
///
/// # Safety
/// `any` must be null or point to an address of the family that it says.
unsafe fn address(any: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or as the caller promises.
    let family = unsafe { any.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: of this family, as the caller promises.
            let v4 = unsafe { any.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, as the caller promises.
            let v6 = unsafe { any.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_loopback_addresses_are_here_and_others_are_not() -> io::Result<()> {
        let addresses = list()?;
        for loopback in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            // IPv6 may be off.
            let is_here = UdpSocket::bind((loopback, 0)).is_ok();
            assert_eq!(addresses.contains(&loopback), is_here, "{loopback}");
        }
        assert!(!addresses.contains(&IpAddr::from([192, 0, 2, 9])));
        Ok(())
    }
}

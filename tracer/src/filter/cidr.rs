//! Is an address in a network?

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// An address, or all that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    ip: IpAddr,
    /// How many bits count.
    prefix: u32,
}

impl Cidr {
    /// Parses `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`.
    ///
    /// # Errors
    /// What was expected instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = ip
            .parse()
            .map_err(|_| "expected an address, perhaps with a prefix: 10.0.0.0/8")?;
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits),
            None => Some(bits),
        };
        let prefix = prefix.ok_or_else(|| format!("expected a prefix of 0 to {bits}"))?;
        // What is v4-mapped is IPv4 in records.
        let canonical = ip.to_canonical();
        Ok(match (ip.is_ipv6() && canonical.is_ipv4(), prefix) {
            (true, 96..) => Self {
                ip: canonical,
                prefix: prefix - 96,
            },
            _ => Self { ip, prefix },
        })
    }

    /// Whether `ip` is in it.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let difference = match (self.ip, ip) {
            // Shifted up, so that the first bit is first in both families.
            (IpAddr::V4(own), IpAddr::V4(ip)) => u128::from(own.to_bits() ^ ip.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(ip)) => own.to_bits() ^ ip.to_bits(),
            _ => return false,
        };
        difference.leading_zeros() >= self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.ip.is_ipv4() {
            32
        } else {
            Ipv6Addr::BITS
        };
        write!(out, "{}", self.ip)?;
        if self.prefix < bits {
            write!(out, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

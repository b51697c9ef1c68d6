//! What is set in the network namespace of the calling thread?

use std::{fs, os::fd::AsRawFd};

use rustix::net::{AddressFamily, SocketType, socket};

/// The settings of a network namespace that explain failures and that advice
/// refers to. `None`: this kernel lacks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `net.ipv4.ip_local_port_range`
    pub(crate) port_range: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`, as ranges, ends included.
    pub(crate) reserved_ports: Vec<(u16, u16)>,
    /// `net.ipv4.tcp_tw_reuse`: 0 off, 1 on, 2 for loopback.
    pub(crate) tw_reuse: Option<u32>,
    /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds.
    pub(crate) tw_reuse_delay: Option<u32>,
    /// `net.ipv4.tcp_timestamps`: 0 off.
    pub(crate) timestamps: Option<u32>,
    /// `net.ipv4.tcp_max_tw_buckets`
    pub(crate) max_tw_buckets: Option<u32>,
    /// `net.core.somaxconn`
    pub(crate) somaxconn: Option<u32>,
    /// `net.ipv4.tcp_max_syn_backlog`
    pub(crate) max_syn_backlog: Option<u32>,
    /// `net.ipv4.tcp_syncookies`: 0 off, 1 when needed, 2 always.
    pub(crate) syncookies: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`
    pub(crate) abort_on_overflow: Option<u32>,
    /// `net.ipv4.tcp_synack_retries`
    pub(crate) synack_retries: Option<u32>,
    /// Whether sockets here know `IP_LOCAL_PORT_RANGE`.
    pub(crate) has_own_range: bool,
}

/// Reads the settings; what this kernel lacks, or what is no number, is `None`.
/// /proc/sys/net shows the namespace of the thread that opens it.
pub(crate) fn read() -> Settings {
    let number = |name: &str| text(name)?.parse().ok();
    Settings {
        port_range: text("ipv4/ip_local_port_range").and_then(|text| pair(&text)),
        reserved_ports: text("ipv4/ip_local_reserved_ports")
            .map(|text| ranges(&text))
            .unwrap_or_default(),
        tw_reuse: number("ipv4/tcp_tw_reuse"),
        tw_reuse_delay: number("ipv4/tcp_tw_reuse_delay"),
        timestamps: number("ipv4/tcp_timestamps"),
        max_tw_buckets: number("ipv4/tcp_max_tw_buckets"),
        somaxconn: number("core/somaxconn"),
        max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
        syncookies: number("ipv4/tcp_syncookies"),
        abort_on_overflow: number("ipv4/tcp_abort_on_overflow"),
        synack_retries: number("ipv4/tcp_synack_retries"),
        has_own_range: knows_own_range(),
    }
}

fn text(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// `32768 60999`
pub(crate) fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (low <= high).then_some((low, high))
}

/// `8080,9000-9010`
pub(crate) fn ranges(text: &str) -> Vec<(u16, u16)> {
    text.split(',')
        .filter_map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            (low <= high).then_some((low, high))
        })
        .collect()
}

/// Whether a socket takes `IP_LOCAL_PORT_RANGE`: its number is in the headers of
/// kernels that do not, and it was back-ported, so only trying tells.
fn knows_own_range() -> bool {
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let Ok(socket) = socket(AddressFamily::INET, SocketType::STREAM, None) else {
        return false;
    };
    let mut range = 0_u32;
    let mut length = 4;
    // SAFETY: the pointers are to four writable bytes and to their length.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw mut range).cast(),
            &raw mut length,
        )
    };
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(pair("32768\t60999"), Some((32768, 60999)));
        assert_eq!(pair("1"), None);
        assert_eq!(pair("2 1"), None);
        assert_eq!(pair("x 1"), None);
        assert_eq!(ranges(""), []);
        assert_eq!(ranges("8080,9000-9010"), [(8080, 8080), (9000, 9010)]);
        assert_eq!(ranges("9000-90,x,1-x,7"), [(7, 7)]);
    }

    #[test]
    fn this_namespace_has_settings() {
        let settings = read();
        assert!(settings.port_range.is_some());
        assert!(settings.somaxconn.is_some());
    }
}

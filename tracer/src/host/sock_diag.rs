//! Which sockets does the kernel list in the network namespace of the calling
//! thread? The only file that speaks netlink.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NlasIterator, Parseable,
};
use netlink_packet_sock_diag::{
    SOCK_DIAG_BY_FAMILY,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

/// `NETLINK_SOCK_DIAG` (include/uapi/linux/netlink.h).
const NETLINK_SOCK_DIAG: isize = 4;

/// States of TCP (include/net/tcp_states.h).
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const SYN_RECV: u8 = 3;
    pub(crate) const FIN_WAIT1: u8 = 4;
    pub(crate) const TIME_WAIT: u8 = 6;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const CLOSE_WAIT: u8 = 8;
    pub(crate) const LAST_ACK: u8 = 9;
    pub(crate) const LISTEN: u8 = 10;
    /// A request socket, shown as `SYN_RECV`.
    pub(crate) const NEW_SYN_RECV: u8 = 12;
    /// A bound socket that is neither connected nor listening; a pseudo-state
    /// of newer kernels, which older ones ignore in a request.
    pub(crate) const BOUND_INACTIVE: u8 = 13;
}

/// Every state of TCP that can be asked for.
pub(crate) const ALL_STATES: u32 = 0x3fff;

/// Only listeners.
pub(crate) const LISTENERS: u32 = 1 << state::LISTEN;

/// One socket. Addresses of IPv6 sockets that speak IPv4 are IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// See [`state`].
    pub(crate) state: u8,
    pub(crate) local: SocketAddr,
    /// Port 0: not connected.
    pub(crate) remote: SocketAddr,
    /// An IPv6 socket; with the wildcard address it takes the port of IPv4 too
    /// unless `IPV6_V6ONLY` is set.
    pub(crate) is_ipv6: bool,
    /// 0: no process has it (any more, or yet).
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    /// Of a listener: the accept queue's length.
    pub(crate) receive_queue: u32,
    /// Of a listener: the accept queue's limit.
    pub(crate) send_queue: u32,
    /// Milliseconds until the running timer ends; for `TIME_WAIT` the time it
    /// has left.
    pub(crate) timer_ms: u32,
    /// Segments dropped at this socket (`sk_drops`), where asked for. Not only
    /// listen-queue drops, and some of them twice: an upper limit.
    pub(crate) drops: Option<u32>,
}

/// Which protocol's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Lists the sockets of both families in the states of the mask `states`.
///
/// # Errors
/// The kernel has no sock_diag for this protocol (its module is missing), or
/// the answer cannot be read.
pub(crate) fn list(protocol: Protocol, states: u32) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    dump(libc::AF_INET, protocol, states, &mut rows)?;
    match dump(libc::AF_INET6, protocol, states, &mut rows) {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => other?,
    }
    Ok(rows)
}

fn dump(family: i32, protocol: Protocol, states: u32, rows: &mut Vec<Row>) -> io::Result<()> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    socket.send(&request(family, protocol, states), 0)?;
    let mut buffer = BytesMut::with_capacity(ANSWER);
    loop {
        buffer.clear();
        buffer.reserve(ANSWER);
        let got = socket.recv(&mut buffer, 0)?;
        if got == 0 {
            return Err(io::Error::other("the list of sockets ends early"));
        }
        if read(&buffer, protocol, rows)? {
            return Ok(());
        }
    }
}

/// The kernel fills as much as the reader's buffer takes, up to this
/// (netlink_recvmsg and netlink_dump, net/netlink/af_netlink.c).
const ANSWER: usize = 32 * 1024;

fn request(family: i32, protocol: Protocol, states: u32) -> Vec<u8> {
    let request = InetRequest {
        family: u8::try_from(family).unwrap_or_default(),
        protocol: match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        },
        // The counter of drops is for listeners; it would cost every row.
        extensions: if states == LISTENERS {
            ExtensionFlags::SKMEMINFO
        } else {
            ExtensionFlags::empty()
        },
        states: StateFlags::from_bits_retain(states),
        socket_id: SocketId::new_v4(),
    };
    let mut header = NetlinkHeader::default();
    let length = header.buffer_len() + request.buffer_len();
    header.length = u32::try_from(length).unwrap_or_default();
    header.message_type = SOCK_DIAG_BY_FAMILY;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut bytes = vec![0; length];
    let (head, body) = bytes.split_at_mut(header.buffer_len());
    header.emit(head);
    request.emit(body);
    bytes
}

/// Reads one answer; `true`: it was the last.
fn read(mut bytes: &[u8], protocol: Protocol, rows: &mut Vec<Row>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(io::Error::other)?;
        match message.message_type() {
            // What a dump fails with comes at its end.
            NLMSG_DONE => return refusal(message.payload()).map_or(Ok(true), Err),
            NLMSG_ERROR => {
                let refusal = refusal(message.payload());
                return Err(
                    refusal.unwrap_or_else(|| io::Error::other("an error without a number"))
                );
            }
            SOCK_DIAG_BY_FAMILY => rows.extend(row(message.payload(), protocol)),
            _ => {}
        }
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The errno with which an answer begins, negated; 0: none.
fn refusal(payload: &[u8]) -> Option<io::Error> {
    let errno = i32::from_ne_bytes(*payload.first_chunk()?).saturating_neg();
    (errno != 0).then(|| io::Error::from_raw_os_error(errno))
}

/// `idiag_expires` in `struct inet_diag_msg`; the crate leaves it out for
/// `TIME_WAIT`.
const EXPIRES: usize = 52;

/// Size of `struct inet_diag_msg`; attributes follow.
const ROW: usize = 72;

fn row(payload: &[u8], protocol: Protocol) -> Option<Row> {
    let header = InetResponseHeader::parse(payload).ok()?;
    let id = &header.socket_id;
    let address = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    Some(Row {
        state: match (header.state, protocol) {
            (state::NEW_SYN_RECV, _) => state::SYN_RECV,
            // What is listed for the pseudo-state is shown as closed; other
            // closed TCP sockets are in no table.
            (state::CLOSE, Protocol::Tcp) => state::BOUND_INACTIVE,
            (other, _) => other,
        },
        local: address(id.source_address, id.source_port),
        remote: address(id.destination_address, id.destination_port),
        is_ipv6: i32::from(header.family) == libc::AF_INET6,
        inode: header.inode.into(),
        uid: header.uid,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        timer_ms: u32_at(payload, EXPIRES).unwrap_or_default(),
        drops: drops(payload.get(ROW..).unwrap_or_default()),
    })
}

/// `SK_MEMINFO_DROPS` in the attribute `INET_DIAG_SKMEMINFO`.
fn drops(attributes: &[u8]) -> Option<u32> {
    const INET_DIAG_SKMEMINFO: u16 = 7;
    const SK_MEMINFO_DROPS: usize = 8;
    NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == INET_DIAG_SKMEMINFO)
        .and_then(|attribute| u32_at(attribute.value(), SK_MEMINFO_DROPS * 4))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::fd::AsRawFd,
    };

    use super::*;

    fn inode(socket: &impl AsRawFd) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        Ok(std::fs::metadata(path)?.ino())
    }

    #[test]
    fn lists_what_this_process_opened() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let tcp = list(Protocol::Tcp, ALL_STATES)?;
        let found = |rows: &[Row], inode| rows.iter().find(|row| row.inode == inode).copied();
        let row = found(&tcp, inode(&listener)?);
        assert_eq!(
            row.map(|row| (row.state, row.local.port(), row.receive_queue)),
            Some((state::LISTEN, listener.local_addr()?.port(), 1))
        );
        let row = found(&tcp, inode(&client)?);
        assert_eq!(
            row.map(|row| (row.state, row.local, row.remote)),
            Some((
                state::ESTABLISHED,
                client.local_addr()?,
                listener.local_addr()?
            ))
        );
        let row = found(&list(Protocol::Udp, ALL_STATES)?, inode(&udp)?);
        assert_eq!(row.map(|row| row.local), Some(udp.local_addr()?));
        let listeners = list(Protocol::Tcp, LISTENERS)?;
        assert!(listeners.iter().all(|row| row.state == state::LISTEN));
        let row = found(&listeners, inode(&listener)?);
        assert_eq!(row.and_then(|row| row.drops), Some(0));
        Ok(())
    }

    #[test]
    fn any_answer_is_read_or_refused() {
        let mut rows = Vec::new();
        let mut bytes = request(libc::AF_INET, Protocol::Tcp, ALL_STATES);
        for length in 0..bytes.len() {
            let _ = read(&bytes[..length], Protocol::Tcp, &mut rows);
        }
        // A length of nothing must not be read for ever.
        bytes[..4].fill(0);
        let _ = read(&bytes, Protocol::Tcp, &mut rows);
        bytes[..4].fill(0xff);
        assert!(read(&bytes, Protocol::Tcp, &mut rows).is_err());
        assert!(read(&[], Protocol::Tcp, &mut rows).is_ok_and(|is_last| !is_last));
        let errno = |payload: &[u8]| refusal(payload).and_then(|error| error.raw_os_error());
        assert_eq!(errno(&(-2_i32).to_ne_bytes()), Some(2));
        assert_eq!(errno(&[0; 4]), None);
        assert_eq!(errno(&[1; 3]), None);
        assert_eq!(row(&[2; 71], Protocol::Tcp), None);
    }
}

//! The one thing that ioctl cannot do: a veth pair across two namespaces.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use crate::sys;

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK_EXCL_CREATE: u16 = 0x1 | 0x4 | 0x200 | 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// An all-zero `struct ifinfomsg`.
const ANY_LINK: [u8; 16] = [0; 16];

/// Makes `near` in the calling thread's namespace and `far` in that of `far_space`.
pub(crate) fn add_veth(near: &str, far: &str, far_space: RawFd) -> io::Result<()> {
    let far_space = far_space.to_ne_bytes();
    let peer = [
        ANY_LINK.to_vec(),
        attribute(IFLA_IFNAME, far.as_bytes()),
        attribute(IFLA_NET_NS_FD, &far_space),
    ]
    .concat();
    let info = [
        attribute(IFLA_INFO_KIND, b"veth"),
        attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)),
    ]
    .concat();
    let body = [
        ANY_LINK.to_vec(),
        attribute(IFLA_IFNAME, near.as_bytes()),
        attribute(IFLA_LINKINFO, &info),
    ]
    .concat();
    ask(&message(&body))
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(body.len() + 16);
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST_ACK_EXCL_CREATE.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]); // sequence, port
    bytes.extend_from_slice(body);
    bytes
}

fn ask(request: &[u8]) -> io::Result<()> {
    let socket = sys::owned_socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let fd = socket.as_raw_fd();
    // SAFETY: pointer and length describe `request`.
    let sent = unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut reply = [0_u8; 1024];
    // SAFETY: pointer and length describe `reply`.
    let got = unsafe { libc::recv(fd, reply.as_mut_ptr().cast(), reply.len(), 0) };
    if got < 20 {
        return Err(io::Error::other("short netlink reply"));
    }
    // An NLMSG_ERROR message: after the header a negative errno, 0 is success.
    match i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

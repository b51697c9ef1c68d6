//! Which sockets does /proc list in the network namespace of the calling
//! thread? For kernels whose sock_diag lacks a protocol: it is a module, and
//! modules may be missing or forbidden.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::sock_diag::{Protocol, Row, state};

/// Lists the sockets of both families in the states of the mask `states`. A
/// listener's limit is not shown here, and bound, unused sockets are not listed.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn list(protocol: Protocol, states: u32) -> io::Result<Vec<Row>> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let mut rows = Vec::new();
    for table in tables {
        match File::open(format!("/proc/thread-self/net/{table}")) {
            Ok(file) => {
                for line in BufReader::new(file).lines().skip(1) {
                    rows.extend(row(&line?).filter(|row| states & (1 << row.state) != 0));
                }
            }
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

/// One row (get_tcp4_sock and others, net/ipv4/tcp_ipv4.c).
pub(crate) fn row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index).copied();
    let hexadecimal = |text: &str| u32::from_str_radix(text, 16).ok();
    let (send_queue, receive_queue) = field(4)?.split_once(':')?;
    let timer = field(5)?.split_once(':')?.1;
    let local = field(1)?;
    Some(Row {
        state: u8::from_str_radix(field(3)?, 16).ok()?,
        local: address(local)?,
        remote: address(field(2)?)?,
        is_ipv6: local.len() > 13,
        inode: field(9)?.parse().ok()?,
        uid: field(7)?.parse().ok()?,
        receive_queue: hexadecimal(receive_queue)?,
        send_queue: hexadecimal(send_queue)?,
        timer_ms: hexadecimal(timer)?.saturating_mul(MS_PER_TICK),
        drops: None,
    })
    .filter(|row| row.state < state::BOUND_INACTIVE)
}

/// Times in /proc are in ticks of `USER_HZ`, 100 a second on every architecture
/// that tracer knows.
const MS_PER_TICK: u32 = 10;

/// `0100007F:1F90`: words of the address in the order of this processor, and the
/// port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
            Some(word.to_ne_bytes())
        })
        .collect();
    let ip = match words?[..] {
        [v4] => IpAddr::V4(Ipv4Addr::from(v4)),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            octets.copy_from_slice([a, b, c, d].as_flattened());
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sock_diag;

    #[test]
    fn reads_rows() {
        let time_wait = "   5: 0100007F:9C40 0100007F:1F90 06 00000000:00000000 03:00000BB8 00000000     0        0 0 3 0000000000000000";
        let row = row(time_wait);
        assert_eq!(
            row.map(|row| (row.state, row.local, row.remote, row.timer_ms)),
            Some((
                6,
                SocketAddr::from(([127, 0, 0, 1], 40000)),
                SocketAddr::from(([127, 0, 0, 1], 8080)),
                30_000
            ))
        );
        let mapped = address("0000000000000000FFFF00000100007F:0050");
        assert_eq!(mapped, Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        let loopback = address("00000000000000000000000001000000:0050");
        assert_eq!(loopback, "[::1]:80".parse().ok());
    }

    #[test]
    fn any_line_is_read_or_left_out() {
        let line = "   5: 0100007F:9C40 0100007F:1F90 06 00000000:00000000 03:00000BB8 00000000     0        0 0 3";
        for length in 0..line.len() {
            let _ = row(&line[..length]);
        }
        for line in ["", "x", "1: é:1 é:1 01 0:0 0:0 0 0 0 0"] {
            assert_eq!(row(line), None);
        }
    }

    #[test]
    fn agrees_with_sock_diag() -> io::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let local = listener.local_addr()?;
        let find = |rows: Vec<Row>| {
            let row = rows.into_iter().find(|row| row.local == local);
            row.map(|row| (row.state, row.remote, row.inode, row.uid))
        };
        let here = find(list(Protocol::Tcp, sock_diag::LISTENERS)?);
        assert!(here.is_some());
        if let Ok(there) = sock_diag::list(Protocol::Tcp, sock_diag::LISTENERS) {
            assert_eq!(here, find(there));
        }
        Ok(())
    }
}
